"""One scan by two processes that torchrun starts: the result of one, and what a stop and a kill do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import ok
from torchrun import find_rank, torchrun

from ptychopinn_reconstructor.io import read_object

pytest.importorskip('torch')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='asks Linux for processes'),
]
FAST = ('--pictures', 'none')


@pytest.fixture(scope='module')
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('shared') / 'scan.npz'
    ok('simulate', '--out', path, '--positions', 289, '--n', 32)
    return path


@pytest.fixture(scope='module')
def model(scan: Path) -> Path:
    folder = scan.with_name('model')
    ok('train', scan, '--epochs', 2, '--output-dir', folder, '--set', 'n_filters_scale=0.5', '--quiet')
    return folder / 'model.safetensors'


def compare(one: Path, two: Path) -> float:
    """Rms of what two results differ by, relative; their files are the same."""
    ours, theirs = (read_object(folder / 'product.h5') for folder in (one, two))
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    assert ours.positions is not None and theirs.positions is not None
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-5)
    apart = np.abs(ours.object - theirs.object)
    return float(np.sqrt((apart**2).mean() / (np.abs(ours.object) ** 2).mean()))


@pytest.mark.parametrize('backend', ['torch', 'onnx'])
def test_two_processes_reconstruct_as_one(backend: str, scan: Path, model: Path, tmp_path: Path) -> None:
    """From the file to the product, halves and uncertainty too; the first process alone writes and prints."""
    if backend == 'onnx':
        pytest.importorskip('onnxruntime')
    line = ('reconstruct', scan, '--model', model, '--backend', backend, '--split-frc', '--passes', 3, *FAST)
    ok(*line, '--output-dir', tmp_path / 'one', '--quiet')
    with torchrun(*line, '--output-dir', tmp_path / 'two') as process:
        stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert stdout.count('verdict:') == 1 and stderr.count('reconstruct:') <= 1
    assert compare(tmp_path / 'one', tmp_path / 'two') < 1e-5


def test_two_processes_refine_what_nobody_knows_as_one(scan: Path, tmp_path: Path) -> None:
    """With a probe that is looked for, and modes that are asked for."""
    line = ('refine', scan, '--passes', 9, '--refine-probe', '--refine-positions', *FAST)
    ok(*line, '--output-dir', tmp_path / 'one', '--quiet')
    with torchrun(*line, '--output-dir', tmp_path / 'two', '--quiet') as process:
        stderr = process.communicate(timeout=200)[1]
    assert process.returncode == 0, stderr
    assert compare(tmp_path / 'one', tmp_path / 'two') < 1e-4


def begin(scan: Path, folder: Path) -> subprocess.Popen[str]:
    """Two processes in a refinement that will not end."""
    process = torchrun('refine', scan, '--passes', 1000, '--output-dir', folder, *FAST)
    assert process.stderr is not None
    for line in process.stderr:
        if 'pass 2 of' in line:
            return process
    raise AssertionError(f'ended with code {process.wait()} before a pass was made')


@pytest.mark.parametrize('rank', [0, 1])
def test_a_killed_process_ends_the_other_with_a_sentence(rank: int, scan: Path, tmp_path: Path) -> None:
    with begin(scan, tmp_path / 'out') as process:
        os.kill(find_rank(tmp_path / 'out', rank), signal.SIGKILL)
        killed = time.monotonic()
        stderr = process.communicate(timeout=60)[1]
    said = [line for line in stderr.splitlines() if line.startswith('ptychopinn: error')]
    assert len(said) == 1 and 'Another process of the reconstruction has ended' in said[0]
    assert 'Unable to shutdown' not in stderr and time.monotonic() - killed < 60
    assert not (tmp_path / 'out' / 'product.h5').exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_both_with_one_sentence(number: signal.Signals, scan: Path, tmp_path: Path) -> None:
    with begin(scan, tmp_path / 'out') as process:
        process.send_signal(number)
        stderr = process.communicate(timeout=60)[1]
    said = [line for line in stderr.splitlines() if line.startswith('ptychopinn: error')]
    assert len(said) == 1 and said[0].startswith('ptychopinn: error: Stopped before'), stderr
    assert 'Unable to shutdown' not in stderr
    assert not (tmp_path / 'out' / 'product.h5').exists()


def test_an_error_of_the_input_is_said_once(tmp_path: Path) -> None:
    with torchrun('refine', tmp_path / 'nothing.npz', '--output-dir', tmp_path / 'out') as process:
        stderr = process.communicate(timeout=60)[1]
    said = [line for line in stderr.splitlines() if line.startswith('ptychopinn: error')]
    assert len(said) == 1 and 'nothing.npz' in said[0] and process.returncode != 0
