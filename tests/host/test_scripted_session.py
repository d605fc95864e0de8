"""A whole session of the real Ptychodus from a script, for both backends, and the same by command."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grids import same_grid
from host_sessions import PINN, SUPERVISED, Case, Finished, run_command, session
from ptychodus.api.io import load_product

from ptychopinn_reconstructor.backend import find_missing_modules
from ptychopinn_reconstructor.host.conformance.scans import list_positions
from ptychopinn_reconstructor.model_file.opening import open_model

pytestmark = pytest.mark.smoke
SAME = 1e-6


def test_the_library_and_its_keys(trained: Finished) -> None:
    facts = trained.facts
    assert {PINN, SUPERVISED} <= set(facts['keys']) and facts['default'] == PINN
    assert not facts['loaded_before'] and facts['loaded_after']


def test_the_model_is_left_in_the_output_folder(scripted: Finished) -> None:
    model = scripted.folder / 'out' / 'model.safetensors'
    assert scripted.facts['model_path'] == str(model)
    training = open_model(model).manifest.training
    assert training.scans == ('demo',) and len(training.losses) == 2
    assert list((scripted.folder / 'out').glob('checkpoints/last.*'))
    assert not list((scripted.folder / 'empty').iterdir())


def test_no_framework_and_no_pickle_in_the_host(scripted: Finished) -> None:
    """After a whole session; nor Qt, which nobody has asked for."""
    facts = scripted.facts
    assert facts['frameworks'] == [] and facts['qt'] == [] and not facts['multiprocessing']
    assert facts['pickled'] == []


def test_losses_are_in_the_products_of_training_and_inference(scripted: Finished, case: Case) -> None:
    losses = [
        tuple(pair) for pair in open_model(scripted.folder / 'out' / 'model.safetensors').manifest.training.losses
    ]
    for name in ('training.h5', 'infer.h5'):
        product = load_product(scripted.folder / name)
        assert [loss.epoch for loss in product.losses] == [1, 2]
        assert np.allclose([(loss.epoch, loss.value) for loss in product.losses], losses)


def test_what_a_training_shows(scripted: Finished, case: Case) -> None:
    """A copy of the selected product at the end of the list: the object of an epoch in the canvas of the host."""
    shown = load_product(scripted.folder / 'training.h5')
    assert scripted.facts['names'] == ['demo', f'demo_{PINN}_training', f'demo_{PINN}']
    assert shown.object_.get_geometry() == case.product.object_.get_geometry()
    assert np.ptp(np.abs(shown.object_.get_array())) > 0.01
    assert scripted.facts['training_progress'] == [2, 2]


def test_the_object_is_on_the_canvas_of_the_host(scripted: Finished, case: Case) -> None:
    """With its center and pixel size; what else the product held is as it was."""
    product, before = load_product(scripted.folder / 'infer.h5'), case.product
    assert product.object_.get_geometry() == before.object_.get_geometry()
    assert np.ptp(np.abs(product.object_.get_array())) > 0.01
    assert product.metadata.comments.startswith('made by a test\n') and 'residual' in product.metadata.comments
    kept = replace(product.metadata, name=before.metadata.name, comments=before.metadata.comments)
    assert kept == before.metadata
    assert np.allclose(list_positions(product), list_positions(before), rtol=1e-12)
    assert product.probes.get_array().shape == before.probes.get_array().shape


def test_previews_come_before_the_end_and_hold_patches(scripted: Finished, case: Case) -> None:
    """Progress grows and ends at 100; each yield leaves a file with its number."""
    progress, goals = zip(*scripted.facts['progress'], strict=True)
    assert progress[0] == 0 and progress[-1] == 100 and set(goals) == {100}
    assert list(progress) == sorted(set(progress)) and len(progress) >= 3
    files = sorted(scripted.folder.glob('each.*.h5'))
    assert [path.name for path in files] == [f'each.{number:06d}.h5' for number in progress[1:]]
    first, last = (load_product(path).object_ for path in (files[0], files[-1]))
    assert first.get_geometry() == last.get_geometry() == case.product.object_.get_geometry()
    middle = np.abs(first.get_array()[0] - 1) > 1e-3
    assert middle.any() and np.array_equal(
        load_product(scripted.folder / 'infer.h5').object_.get_array(), last.get_array()
    )


def test_the_log_panel_tells_what_happened(scripted: Finished) -> None:
    log = '\n'.join(scripted.facts['log'])
    assert re.search(r'Epoch 1 of 2: loss \S+', log) and 'Epoch 2 of 2' in log
    assert "the selected product 'demo'" in log and ' on cpu' in log and 'Model: model.safetensors: pinn' in log
    inference = log.rpartition('Model: model.safetensors')[2]
    assert 'Probe power is' in inference
    assert re.search(r'Done after \d+ refinement passes: residual 0\.\d+, R 0\.\d+, 90 % error bars of', inference)
    assert 'ERROR' not in log


def test_the_command_line_finds_the_same_object(trained: Finished, folder: Path, tmp_path: Path) -> None:
    model = trained.folder / 'out' / 'model.safetensors'
    run_command('ptychopinn', 'reconstruct', folder, '--model', model, '--output-dir', tmp_path, '--device', 'cpu')
    one, other = same_grid(
        load_product(trained.folder / 'infer.h5').object_, load_product(tmp_path / 'product.h5').object_
    )
    assert one.shape == load_product(tmp_path / 'product.h5').object_.get_array().shape[1:]
    assert np.abs(one - other).max() < SAME and np.ptp(np.abs(one)) > 0.01


def test_batch_mode_trains_and_finds_the_same_object(trained: Finished, folder: Path, tmp_path: Path) -> None:
    """`-b train` leaves the model, `-b reconstruct` product.NNNNNN.h5; the same settings give the same model."""
    given, output, found = (tmp_path / name for name in ('in', 'out', 'found'))
    shutil.copytree(folder, given)
    shutil.copy(trained.folder / 'settings.ini', given / 'settings.ini')
    run_command('ptychodus', '-b', 'train', '-i', given, '-o', output)
    mine, theirs = (open_model(path / 'model.safetensors') for path in (output, trained.folder / 'out'))
    assert all(np.allclose(mine.weights[name], theirs.weights[name], atol=1e-6) for name in theirs.weights)
    assert mine.manifest.training.scans == (str(given),)

    shutil.copy(trained.folder / 'out' / 'model.safetensors', given / 'model.safetensors')
    run_command('ptychodus', '-b', 'reconstruct', '-i', given, '-o', found)
    names = sorted(path.name for path in found.iterdir())
    assert names[-1] == 'product.000100.h5' and all(re.fullmatch(r'product\.\d{6}\.h5', name) for name in names)
    one, other = (load_product(path).object_ for path in (trained.folder / 'infer.h5', found / 'product.000100.h5'))
    assert one.get_geometry() == other.get_geometry()
    assert np.abs(one.get_array() - other.get_array()).max() < SAME


def test_batch_mode_fails_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    """No model: exit code 1 and the reason on the log."""
    done = run_command('ptychodus', '-b', 'reconstruct', '-i', folder, '-o', tmp_path / 'out', code=1)
    assert 'No model is loaded' in done.stdout and 'Load Model' in done.stdout
    assert not list((tmp_path / 'out').glob('product*'))


@pytest.mark.slow
def test_other_backends_open_the_model(trained: Finished, folder: Path) -> None:
    """The object of one backend's model is that of the other's network, but for rounding."""
    if missing := find_missing_modules('tensorflow'):
        pytest.skip(f'TensorFlow is not installed: {", ".join(missing)}')
    with session(None, 'tensorflow') as host:
        host.set(**{'PtychoPINNInference.ModelPath': trained.folder / 'out' / 'model.safetensors'})
        found = host.open(folder).reconstruct_local(block=True).get_product().object_.get_array()
    one = load_product(trained.folder / 'infer.h5').object_.get_array()
    assert np.abs(found - one).max() < 1e-3 * np.abs(one).max()
