"""Commands killed at a random moment: every file whole or absent, and the same command again ends in the same bits."""

from __future__ import annotations

import csv
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scans import small_scan

from harden.commands import list_children, measure_cpu, start, wait_for_cpu
from ptychopinn_reconstructor.config.yaml_text import parse_yaml
from ptychopinn_reconstructor.errors import PtychoPINNError
from ptychopinn_reconstructor.io import read_product, write_npz
from ptychopinn_reconstructor.io.locks import NAME as LOCK
from ptychopinn_reconstructor.io.sealing import check_seal
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.training.metrics_table import read_losses

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OTHER_DISK = Path('/dev/shm')  # beside the folder for temporary files: another file system where there is one
PATIENCE = 300.0  # CPU seconds after which a command hangs
TINY = ('n_filters_scale=0.1', 'batch_size=8', 'device=cpu')
OTHERS = ('killed.log', 'again.log', 'torchinductor_', '__autograph_generated_file', '__pycache__')  # of frameworks
Arrays = dict[str, NDArray[np.generic]]


class NotWhole(Exception):  # noqa: N818 - says what happened
    """What a killed command has left and should not have."""


@dataclass(frozen=True)
class Job:
    """A command that is killed: its line, what it has made, and whether --resume goes on with it."""

    line: Callable[[str, Path], list[str]]
    result: Callable[[Path], Arrays]
    resumes: bool
    share: float  # of all kills


def attack_kill(backend: str, folder: Path, rng: np.random.Generator, kind: str | None = None) -> str:
    """'held' when a command killed by a random signal leaves whole files, and again makes what it makes undisturbed."""
    name = kind or str(rng.choice(sorted(JOBS), p=[JOBS[name].share for name in sorted(JOBS)]))
    job, (expected, seconds) = JOBS[name], _reference(backend, name)
    elsewhere = OTHER_DISK if rng.integers(2) and OTHER_DISK.is_dir() else folder
    with tempfile.TemporaryDirectory(dir=elsewhere, prefix='harden-') as place:
        out, line = Path(place) / 'out', job.line(backend, Path(place) / 'out')
        process = start(backend, line, folder / 'killed.log', folder)
        if wait_for_cpu(process, float(rng.uniform(0.0, seconds))):
            _kill(process, SIGNALS[int(rng.integers(len(SIGNALS)))], group=bool(rng.integers(2)))
        _wait(process)
        _check_log(folder / 'killed.log')
        _check_files(out)
        again = start(backend, [*line, *_go_on(job, out)], folder / 'again.log', folder)
        _wait(again)
        said = (folder / 'again.log').read_text()
        if again.exitcode:
            raise NotWhole(f'{name} again: exit code {again.exitcode}: {said[-300:]}')
        found = job.result(out)
        if other := [key for key in expected if key not in found or not np.array_equal(found[key], expected[key])]:
            raise NotWhole(f'{name} again: another {other[0]}')
        if left := [path.name for path in out.rglob('*') if '.partial' in path.name or path.name == LOCK]:
            raise NotWhole(f'{name} left {left}')
    if left := [path.name for path in folder.iterdir() if not path.name.startswith(OTHERS)]:
        raise NotWhole(f'{name} left {left} among the temporary files')
    return 'held'


def _go_on(job: Job, out: Path) -> list[str]:
    """What the command needs to go on, or to begin again in the same folder."""
    if not job.resumes:
        return []
    return ['--resume'] if any(out.glob('checkpoints/last.*')) else ['--overwrite']


def _kill(process: BaseProcess, number: signal.Signals, *, group: bool) -> None:
    """Send a signal to a command alone, as `kill` does, or with its children, as a terminal does."""
    children = list_children(process.pid or 0)
    for pid in [process.pid or 0, *(children if group else [])]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    if number == signal.SIGKILL and not group:
        for child in children:  # whoever restarts a command waits for what still writes there, or is told of its lock
            while Path(f'/proc/{child}').exists():
                time.sleep(0.02)


def _wait(process: BaseProcess) -> None:
    while process.is_alive():
        if measure_cpu(process.pid or 0) > PATIENCE:
            process.kill()
            raise NotWhole('it hangs')
        process.join(0.2)


def _check_log(log: Path) -> None:
    said = log.read_text() if log.exists() else ''
    if 'Unexpected' in said or 'Traceback' in said:
        raise NotWhole(said[-300:])


# what is killed


def _settings(backend: str, *more: str) -> list[str]:
    return [part for value in (*TINY, f'backend={backend}', *more) for part in ('--set', value)]


def _train(backend: str, out: Path, positions: int, epochs: int) -> list[str]:
    return [
        'train',
        _scan_file(positions),
        '--output-dir',
        str(out),
        *_settings(backend, f'nepochs={epochs}'),
        '--quiet',
    ]


def _pretrain(backend: str, out: Path) -> list[str]:
    settings = _settings(backend, 'nepochs=3', 'n_groups=64')
    return ['pretrain', _scan_file(64), '--output-dir', str(out), *settings, '--quiet']


def _reconstruct(backend: str, out: Path) -> list[str]:
    options = ['--model', _model(backend), '--output-dir', str(out), '--passes', '2', '--keep-patches', '--quiet']
    return ['reconstruct', _scan_file(64), *options]


def _study(backend: str, out: Path) -> list[str]:
    grid = ['--model', 'pinn,engine', '--backend', backend, '--seeds', '1', '--n', '32', '--area', '64']
    # The learning rate follows the clock where CPU time is limited: without end, so that it follows the steps alone.
    limits = ['--patterns-seen', '64', '--passes', '1', '--engine-passes', '2', '--max-cpu-seconds', '1e300']
    return ['study', *grid, *limits, '--output-dir', str(out), *_settings(backend)[: 2 * len(TINY)], '--quiet']


def _read_model(out: Path) -> Arrays:
    return dict(open_model(out / 'model.safetensors').weights)


def _read_product(out: Path) -> Arrays:
    product = read_product(out / 'product.h5')
    return {'object': product.object, 'probe': product.probe, 'positions': product.positions}


def _read_study(out: Path) -> Arrays:
    found: Arrays = {}
    for path in sorted(out.glob('runs/*/*.npz')):
        with np.load(path) as file:
            found |= {f'{path.parent.name} {name}': file[name] for name in file.files}
    return found


JOBS = {
    'training': Job(lambda backend, out: _train(backend, out, 64, 6), _read_model, True, 0.35),
    # Of so few patterns nearly all the time goes into checkpoints, metrics and the model.
    'saving': Job(lambda backend, out: _train(backend, out, 24, 12), _read_model, True, 0.3),
    'pretraining': Job(_pretrain, _read_model, True, 0.11),
    'reconstructing': Job(_reconstruct, _read_product, False, 0.2),
    'study': Job(_study, _read_study, False, 0.04),
}


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix='harden-kept-'))


@cache
def _scan_file(positions: int) -> str:
    path = _scratch() / f'{positions}.npz'
    write_npz(path, small_scan(positions=positions))
    return str(path)


@cache
def _model(backend: str) -> str:
    _run_undisturbed(backend, _train(backend, _scratch() / backend, 64, 2))
    return str(_scratch() / backend / 'model.safetensors')


@cache
def _reference(backend: str, name: str) -> tuple[Arrays, float]:
    """What a command makes that nobody kills, and the CPU seconds it takes."""
    with tempfile.TemporaryDirectory(prefix='harden-') as place:
        seconds = _run_undisturbed(backend, JOBS[name].line(backend, Path(place) / 'out'))
        return JOBS[name].result(Path(place) / 'out'), seconds


def _run_undisturbed(backend: str, line: list[str]) -> float:
    """CPU seconds of a command."""
    with tempfile.TemporaryDirectory(prefix='harden-') as place:
        before = sum(os.times()[2:4])
        process, used = start(backend, line, Path(place) / 'log', Path(place)), 0.0
        while process.is_alive():
            used = max(used, measure_cpu(process.pid or 0))
            process.join(0.02)
        if process.exitcode:
            raise NotWhole((Path(place) / 'log').read_text()[-300:])
    return max(used, sum(os.times()[2:4]) - before)


# what is whole


def _is_picture(path: Path) -> bool:
    if not path.read_bytes().rstrip().endswith((b'IEND\xaeB`\x82', b'</svg>', b'</html>')):
        raise ValueError('it has no end')
    return True


def _is_table(path: Path) -> bool:
    rows = list(csv.reader(path.open(newline='')))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError('a row is cut short')
    return True


def _is_archive(path: Path) -> bool:
    with np.load(path) as file:
        return all(file[name].size for name in file.files)


CHECKS: dict[str, Callable[[Path], object]] = {
    'checkpoints/*': check_seal,
    '*.safetensors': open_model,
    'config.yaml': lambda path: parse_yaml(path.read_text(), str(path), 'mend it')['training'],
    '*.json': lambda path: json.loads(path.read_text()),
    'metrics.csv': lambda path: read_losses(path.parent),
    'study.csv': _is_table,
    'product.h5': read_product,
    '*.npz': _is_archive,
    '*.png': _is_picture,
    '*.html': _is_picture,
}


def _check_files(out: Path) -> None:
    """Raise NotWhole where a file that has its name is not whole."""
    for pattern, check in CHECKS.items():
        for path in out.rglob(pattern):
            if path.name.startswith('.'):
                continue
            try:
                check(path)
            except (PtychoPINNError, ValueError, KeyError, TypeError, OSError) as error:
                raise NotWhole(f'{path.name}: {error}') from error
