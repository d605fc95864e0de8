"""The examples for Ptychodus, each in a short form, run as a user runs them: in new processes, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from grids import same_grid
from ptychodus.api.io import load_product

from ptychopinn_reconstructor.backend import find_missing_modules
from ptychopinn_reconstructor.io import ObjectFile, read_object, read_product
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.reconstruction.evaluate import evaluate

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'
TITLES = {'torch': 'PyTorch', 'tensorflow': 'TensorFlow'}
pytestmark = pytest.mark.slow


def run(folder: Path, *command: str) -> str:
    """Run a command in `folder`, with the programs of this environment; what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, 'PATH': path, 'HOME': str(folder)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def phase_psnr(result: Path, truth: Path) -> float:
    """Of a product's object against the truth, dB."""
    return evaluate(read_object(result), read_object(truth)).phase_psnr


def flat_phase_psnr(folder: Path) -> float:
    """Of the object that every example starts from."""
    start, truth = read_object(folder / 'product.h5'), read_object(folder / 'truth.h5')
    assert np.ptp(np.abs(start.object)) == 0
    blurred = ObjectFile(start.object + 1e-6 * truth.object, start.origin, start.positions)  # flat: nothing to align
    return evaluate(blurred, truth).phase_psnr


def is_a_reconstruction(result: Path, folder: Path) -> bool:
    """Whether an object is far better than the one that the scan in `folder` starts from."""
    return phase_psnr(result, folder / 'truth.h5') > max(20.0, flat_phase_psnr(folder) + 6.0)


@pytest.mark.skipif(bool(find_missing_modules('torch')), reason='the example uses PyTorch')
def test_a_scripted_session(tmp_path: Path) -> None:
    said = run(tmp_path, sys.executable, '-P', str(EXAMPLES / 'scripted_session.py'), '10')
    assert is_a_reconstruction(tmp_path / 'result.h5', tmp_path / 'scan')
    assert f'{phase_psnr(tmp_path / "result.h5", tmp_path / "scan" / "truth.h5"):.1f} dB' in said
    trained = open_model(tmp_path / 'trained' / 'model.safetensors').manifest
    losses = read_product(tmp_path / 'result.h5').losses
    assert losses == trained.training.losses
    assert losses[-1][1] < 0.5 * losses[0][1]
    assert f'{len(losses)} epochs' in said and trained.backend == 'torch'


@pytest.mark.parametrize('trains', list(TITLES))
def test_a_model_of_one_backend_gives_the_same_object_with_the_other(tmp_path: Path, trains: str) -> None:
    """But for rounding, which the passes enlarge where a far field is dark; they begin with the network's object, which
    is dropped for an empty one, all rounding in the dark, where the training was too short."""
    if missing := [module for name in TITLES for module in find_missing_modules(name)]:
        pytest.skip(f'needs both backends; missing: {", ".join(missing)}')
    said = run(tmp_path, sys.executable, '-P', str(EXAMPLES / 'switch_backend.py'), '10', TITLES[trains])
    products = [read_product(tmp_path / f'{title}.h5') for title in TITLES.values()]
    one, other = (product.object for product in products)
    apart = np.abs(one - other)
    assert 0 < np.sqrt((apart**2).mean()) < 5e-6 * np.abs(one).max() and apart.max() < 2e-4
    assert np.abs(one).std() > 0.01  # an object, not the flat one that both started from
    assert open_model(tmp_path / 'trained' / 'model.safetensors').manifest.backend == trains
    assert f'trained with {TITLES[trains]}' in said
    for name, product in zip(TITLES, products, strict=True):
        assert TITLES[name] in product.comments or name in product.comments


def shortened(settings: Path, backend: str, seconds: int) -> str:
    """The example's INI file with another backend and training time."""
    text = settings.read_text()
    assert text.count('Backend = PyTorch') == text.count('MaxCpuSeconds = 60') == 1
    text = text.replace('Backend = PyTorch', f'Backend = {TITLES[backend]}')
    return text.replace('MaxCpuSeconds = 60', f'MaxCpuSeconds = {seconds}')


@pytest.mark.parametrize('backend', list(TITLES))
def test_batch_mode(tmp_path: Path, backend: str) -> None:
    if missing := find_missing_modules(backend):
        pytest.skip(f'{TITLES[backend]} is not installed: {", ".join(missing)}')
    batch = EXAMPLES / 'batch_mode'
    (tmp_path / 'short.ini').write_text(shortened(batch / 'settings.ini', backend, 10))
    said = run(tmp_path, 'sh', str(batch / 'run.sh'), 'short.ini')
    scan, result = tmp_path / 'scan', tmp_path / 'result' / 'product.000100.h5'
    assert sorted(path.name for path in (tmp_path / 'result').iterdir())[-1] == result.name
    assert is_a_reconstruction(result, scan)
    assert f'{phase_psnr(result, scan / "truth.h5"):.4g} dB' in said
    assert open_model(tmp_path / 'trained' / 'model.safetensors').manifest.backend == backend

    # The same model and scan give the same object on our own command line.
    options = ['--backend', backend, '--passes', '2', '--output-dir', 'again', '--quiet']
    run(tmp_path, 'ptychopinn', 'reconstruct', 'scan', '--model', 'scan/model.safetensors', *options)
    ours, theirs = (load_product(path).object_ for path in (tmp_path / 'again' / 'product.h5', result))
    one, other = same_grid(ours, theirs)
    assert one.shape == ours.get_array().shape[1:] and np.ptp(np.abs(one)) > 0.01
    assert np.abs(one - other).max() < 1e-6
