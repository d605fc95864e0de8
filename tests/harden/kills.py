"""Trainings killed at a random moment: every file whole or absent, and resumed to the same weights bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from scans import small_scan

from ptychopinn_reconstructor.config.yaml_text import parse_yaml
from ptychopinn_reconstructor.errors import ConfigError, PtychoPINNError
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.io.locks import NAME as LOCK
from ptychopinn_reconstructor.io.sealing import check_seal
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.training.metrics_table import read_losses

EPOCHS = 6
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OTHER_DISK = Path('/dev/shm')  # beside the folder for temporary files: another file system where there is one
Weights = dict[str, np.ndarray]


class NotWhole(Exception):  # noqa: N818 - says what happened
    """What a killed training has left and should not have."""


def attack_kill(backend: str, folder: Path, rng: np.random.Generator) -> str:
    """'held' when a training killed by a random signal leaves whole files and resumes to the reference's weights."""
    expected, seconds = _reference(backend)
    elsewhere = OTHER_DISK if rng.integers(2) and OTHER_DISK.is_dir() else folder
    with tempfile.TemporaryDirectory(dir=elsewhere, prefix='harden-') as name:
        out = Path(name) / 'out'
        process = subprocess.Popen(_command(backend, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(float(rng.uniform(0.3, seconds)))
        process.send_signal(SIGNALS[int(rng.integers(len(SIGNALS)))])
        _, said = process.communicate()
        if 'Unexpected' in said or 'Traceback' in said:
            raise NotWhole(said[-300:])
        _check_files(out)
        resumed = [*_command(backend, out), '--resume'] if any(out.glob('checkpoints/last.*')) else []
        again = subprocess.run(resumed or [*_command(backend, out), '--overwrite'], capture_output=True, text=True)
        if again.returncode and not ('nothing to resume' in again.stderr and not (out / 'config.yaml').exists()):
            raise NotWhole(f'resumed with exit code {again.returncode}: {again.stderr[-300:]}')
        if not again.returncode:
            found = open_model(out / 'model.safetensors').weights
            if not all(np.array_equal(found[key], values) for key, values in expected.items()):
                raise NotWhole('resumed to other weights')
            if left := [path.name for path in out.rglob('*') if '.partial' in path.name or path.name == LOCK]:
                raise NotWhole(f'left {left}')
    return 'held'


def _command(backend: str, out: Path) -> list[str]:
    scan = _scan_file()
    settings = ('n_filters_scale=0.1', 'batch_size=8', f'nepochs={EPOCHS}', 'device=cpu', f'backend={backend}')
    options = [part for setting in settings for part in ('--set', setting)]
    program = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', 'train', str(scan), '--output-dir', str(out)]
    return [*program, *options, '--quiet']


@cache
def _scan_file() -> Path:
    path = Path(tempfile.gettempdir()) / f'harden-{os.getpid()}.npz'
    write_npz(path, small_scan(positions=64))
    return path


@cache
def _reference(backend: str) -> tuple[Weights, float]:
    """Weights of a training that nobody kills, and the seconds it takes."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(_command(backend, Path(name) / 'out'), check=True, capture_output=True)
        return open_model(Path(name) / 'out' / 'model.safetensors').weights, time.monotonic() - begin


def _check_files(out: Path) -> None:
    """Raise NotWhole where a file that has its name is not whole."""
    checks: dict[str, Callable[[Path], object]] = {
        'checkpoints/*': check_seal,
        '*.safetensors': open_model,
        'config.yaml': lambda path: parse_yaml(path.read_text(), str(path), 'mend it')['training'],
        'metrics.json': lambda path: json.loads(path.read_text()),
        'metrics.csv': lambda path: read_losses(path.parent),
    }
    for pattern, check in checks.items():
        for path in out.glob(pattern):
            if path.name.startswith('.'):
                continue
            try:
                check(path)
            except (PtychoPINNError, ConfigError, ValueError, KeyError, TypeError) as error:
                raise NotWhole(f'{path.name}: {error}') from error
