"""One model file for both backends: each reconstructs and trains on what the other has trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frameworks import needs
from scans import short_config, small_scan

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.reconstruction.reconstruct import reconstruct
from ptychopinn_reconstructor.training.run import TrainingResult
from ptychopinn_reconstructor.training.train import train

pytestmark = [pytest.mark.slow, needs('torch', 'tensorflow')]
BOTH = ['torch', 'tensorflow']


def config_of(backend: str, **changes: object) -> Config:
    return short_config(execution__backend=backend, **changes)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingResult]:
    folder = tmp_path_factory.mktemp('models')
    return {name: train([small_scan()], config_of(name, training__nepochs=8), folder / name) for name in BOTH}


@pytest.mark.parametrize('one', BOTH)
def test_a_model_of_one_reconstructs_in_the_other(trained: dict[str, TrainingResult], one: str) -> None:
    """The object of the network, and that of two passes, agree to 1e-5 of the amplitude range."""
    objects = [
        reconstruct(small_scan(), trained[one].model, config_of(name, refinement__passes=passes)).reconstruction.object
        for passes in (0, 2)
        for name in BOTH
    ]
    for a, b in (objects[:2], objects[2:]):
        assert 0 < np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


@pytest.mark.parametrize(('one', 'other'), [('torch', 'tensorflow'), ('tensorflow', 'torch')])
def test_training_goes_on_in_the_other(
    trained: dict[str, TrainingResult], tmp_path: Path, one: str, other: str
) -> None:
    """Fine-tuned in the other backend, a model begins where the first ended, and ends better; the file says who."""
    losses = [loss for _, loss in trained[one].trained.losses]
    further_config = config_of(other, training__nepochs=16, training__learning_rate=5e-4)
    further = train([small_scan()], further_config, tmp_path, initial=trained[one].model)
    found = [loss for _, loss in further.trained.losses]
    assert found[0] < 0.6 * losses[0] and found[0] < 1.5 * losses[-1]
    assert np.mean(found[-2:]) < np.mean(losses[-2:])
    assert open_model(further.model).manifest.backend == other
    before, after = (open_model(model).weights for model in (trained[one].model, further.model))
    assert 0 < max(float(np.abs(before[name] - after[name]).max()) for name in before) < 0.1
    judged = open_model(further.model).manifest.training
    assert judged.start_kept is False
    assert judged.residual is not None and judged.start_residual is not None
    assert judged.residual < 1.01 * judged.start_residual


@pytest.mark.parametrize(('backend', 'source'), [('torch', 'mixed'), ('tensorflow', 'scans')])
def test_a_training_that_makes_it_worse_keeps_what_it_started_from(
    trained: dict[str, TrainingResult], tmp_path: Path, backend: str, source: str
) -> None:
    """The weights are those of the start, and the model says so, and why."""
    ruinous = config_of(backend, training__nepochs=2, training__learning_rate=1e-2, data__source=source)
    further = train([small_scan()], ruinous, tmp_path, initial=trained[backend].model)
    before, after = (open_model(model) for model in (trained[backend].model, further.model))
    assert all(np.array_equal(before.weights[name], after.weights[name]) for name in before.weights)
    judged = after.manifest.training
    assert judged.start_kept is True
    assert judged.residual is not None and judged.start_residual is not None
    assert judged.residual >= judged.start_residual
    assert any('started from is kept' in notice.text for notice in further.notices)


@pytest.mark.parametrize(('setting', 'size'), [({'model__probe_big': True}, 24), ({'model__pad_object': False}, 32)])
def test_larger_patches_are_kept_in_the_model(tmp_path: Path, setting: dict[str, bool], size: int) -> None:
    """S1: trained in one backend, the model's patches are of that size, and the other makes the same object."""
    config = config_of('torch', training__nepochs=2, **setting)
    model = train([small_scan()], config, tmp_path).model
    assert open_model(model).self_test.patches.shape[1:] == (size, size)
    plain = {'model': {name.removeprefix('model__'): not on for name, on in setting.items()}}
    one, two = (reconstruct(small_scan(), model, config_of(name).merged(plain)).reconstruction.object for name in BOTH)
    assert 0 < np.abs(one - two).max() <= 1e-5 * np.abs(one).max()
    with pytest.raises(ModelFileError, match=next(iter(setting)).removeprefix('model__')):
        train([small_scan()], config.merged(plain), tmp_path / 'other', initial=model)
