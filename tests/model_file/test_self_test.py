"""The self-test of a model file: what passes a replay, and what is not saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import N, parts, predict
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ModelFileError, VerificationError
from ptychopinn_reconstructor.model_file.opening import Model, open_model
from ptychopinn_reconstructor.model_file.replaying import replay
from ptychopinn_reconstructor.model_file.self_test import SelfTest
from ptychopinn_reconstructor.model_file.writing import write_model


def test_a_replay_tells_the_difference(model_file: Path) -> None:
    found = replay(model_file, open_model(model_file), predict)
    assert found.difference == 0.0 and found.patterns == 3 and found.tolerance == 1e-6
    given_parts = parts()
    recorded = given_parts['self_test'].patches
    expected = np.abs(given_parts['fresh_patches'] - recorded).max() / np.abs(recorded).max()
    assert found.distance_to_fresh == pytest.approx(expected, rel=1e-6)
    assert found.written_by == given_parts['description'].backend


@pytest.mark.parametrize(('factor', 'passes'), [(0.5, True), (2.0, False)])
def test_the_tolerance_is_relative_to_the_amplitude_range(model_file: Path, factor: float, passes: bool) -> None:
    def shifted(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex128]:
        patches = predict(model, counts).astype(np.complex128)
        patches[1, 2, 3] += 1j * factor * 1e-6 * np.abs(patches).max()
        return patches

    if passes:
        assert replay(model_file, open_model(model_file), shifted).difference == pytest.approx(0.5e-6, rel=1e-3)
    else:
        with pytest.raises(VerificationError, match='self-test'):
            replay(model_file, open_model(model_file), shifted)


@pytest.mark.parametrize('wrong', ['nan', 'shape'])
def test_nan_and_another_shape_never_pass(model_file: Path, wrong: str) -> None:
    def broken(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        patches = predict(model, counts)
        return patches[:, :-1] if wrong == 'shape' else patches * np.complex64('nan')

    with pytest.raises(VerificationError):
        replay(model_file, open_model(model_file), broken)


def test_an_untrained_network_is_not_saved(tmp_path: Path) -> None:
    given_parts = parts()
    patches = given_parts['self_test'].patches
    near = patches.copy()
    near[0, 0, 0] += 90e-6 * np.abs(patches).max()
    for fresh in (patches, patches * np.complex64('nan')):
        with pytest.raises(VerificationError, match='fresh network'):
            write_model(tmp_path / 'model.safetensors', **{**given_parts, 'fresh_patches': fresh})
    assert not list(tmp_path.iterdir())
    path = write_model(tmp_path / 'model.safetensors', **{**given_parts, 'fresh_patches': near})
    assert not open_model(path).manifest.self_test.has_learned
    near[0, 0, 0] += 20e-6 * np.abs(patches).max()
    write_model(path, **{**given_parts, 'fresh_patches': near})
    assert open_model(path).manifest.self_test.has_learned


def test_weights_that_are_not_those_of_the_recorded_output_are_not_saved(tmp_path: Path) -> None:
    given_parts = parts()
    given_parts['weights'] = {**given_parts['weights'], 'gain': given_parts['weights']['gain'] * np.float32(1.001)}
    with pytest.raises(VerificationError, match=r'model\.safetensors'):
        write_model(tmp_path / 'model.safetensors', **given_parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('change', 'fragment'),
    [
        ({'tolerance': 2e-5}, 'tolerance'),
        ({'tolerance': 0.0}, 'tolerance'),
        ({'tolerance': float('nan')}, 'tolerance'),
        ({'counts': -np.ones((3, N, N), np.float32)}, 'negative'),
        ({'counts': np.ones((3, N, N))}, 'float64'),
        ({'counts': np.ones((2, N, N), np.float32)}, '2 inputs and 3 outputs'),
        ({'patches': np.zeros((3, 8, 8), np.complex64)}, 'zero'),
        ({'patches': np.full((3, 8, 8), np.nan, np.complex64)}, 'NaN'),
        ({'patches': np.ones((3, 8, 4), np.complex64)}, r'\(3, 8, 4\)'),
    ],
)
def test_a_useless_self_test_is_refused(change: dict[str, Any], fragment: str) -> None:
    good = parts()['self_test']
    with pytest.raises(ModelFileError, match=fragment):
        SelfTest(**{'counts': good.counts, 'patches': good.patches, 'tolerance': 1e-6, **change})
