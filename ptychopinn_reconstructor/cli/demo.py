"""`ptychopinn demo`: from nothing to pictures in a few minutes.

Trains in this process; every reconstruction happens in a new one that knows only the files, as a user's would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config import Config
from ..errors import Interrupted, PtychoPINNError
from ..events import Emit, Progress, ShouldStop
from .app import debug_option, json_option, quiet_option
from .folders import check_output_folder
from .progress import ProgressBar
from .report import pairs, show, table
from .stopping import stoppable

if TYPE_CHECKING:
    from ..scan import Scan

SCANS = {'A': ('cells', 0), 'B': ('leaves', 1)}  # name: kind of object, offset of the seed
TITLES = {'A': 'trained on', 'B': 'never seen'}
PASSES, ENGINE_PASSES = 2, 20
GOOD_ENOUGH = 20.0  # dB of phase PSNR that the trained object must reach
METHODS = {
    'network': 'network alone',
    'refined': f'network + {PASSES} passes',
    'engine': f'engine alone, {ENGINE_PASSES} passes',
}
COLUMNS = {
    'phase_psnr': 'phase dB',
    'amplitude_psnr': 'amplitude dB',
    'frc_area': 'FRC area',
    'amplitude_ratio': 'ratio',
}

training_time_option = click.option(
    '--max-cpu-seconds',
    type=click.FloatRange(1),
    default=150.0,
    show_default=True,
    help='CPU time of the training, seconds.',
)


@click.command()
@click.option('--out', default='demo', show_default=True, type=click.Path(path_type=Path), help='Folder for all files.')
@click.option(
    '--seed', type=click.IntRange(0), default=0, show_default=True, help='Seed of the scans and the training.'
)
@training_time_option
@click.option('--positions', type=click.IntRange(64), default=1024, show_default=True, help='Patterns of each scan.')
@click.option('--backend', default=Config().execution.backend, show_default=True, help='Backend to train with.')
@json_option
@quiet_option
@debug_option
def demo(
    out: Path, seed: int, max_cpu_seconds: float, positions: int, backend: str, as_json: bool, quiet: bool
) -> None:
    """Simulate two scans, train on the first, then reconstruct both in a new process and compare with the truth.

    Prints a table and the paths of the pictures. Exit code 1 if the phase PSNR of the object that was trained on is
    below 20 dB.
    """
    start = time.monotonic()
    check_output_folder(out)
    training = {'seed': seed, 'max_cpu_seconds': max_cpu_seconds}
    config = Config().merged({'training': training, 'execution': {'backend': backend}})
    with stoppable() as should_stop, ProgressBar('simulate', quiet=quiet) as bar:
        from ..backend import load_backend

        load_backend(backend)  # not there: found before anything is written
        for name in SCANS:
            _write_scan(out, name, seed, positions)
        trained = _train(out, config, bar.emit, should_stop)
        metrics = _reconstruct_all(out, bar.emit, should_stop)
        pictures = [str(_picture(out, name)) for name in SCANS]
    summary = {
        'seconds': round(time.monotonic() - start, 1),
        'training': trained,
        'model': str(out / 'model' / 'model.safetensors'),
        'results': metrics,
        'pictures': pictures,
    }
    if as_json or not quiet:
        show(summary, as_json=as_json, text=_lines(summary))
    check_reached(metrics['A']['refined']['phase_psnr'])


def check_reached(phase_psnr: float) -> None:
    """PtychoPINNError when the object of scan A is not as good as it must be."""
    if phase_psnr < GOOD_ENOUGH:
        raise PtychoPINNError(
            f'The phase PSNR of scan A is {phase_psnr:.1f} dB, below {GOOD_ENOUGH:g} dB: the demo failed.'
        )


def demo_scan(name: str, seed: int, positions: int) -> Scan:
    """A scan of SCANS with its true object, N = 64."""
    from ..physics.simulation.simulate import simulate

    kind, offset = SCANS[name]
    return simulate(object=kind, seed=2 * seed + offset, positions=positions)


def _write_scan(out: Path, name: str, seed: int, positions: int) -> None:
    from ..io import write_npz

    write_npz(out / f'scan_{name}.npz', demo_scan(name, seed, positions))


def _train(out: Path, config: Config, emit: Emit, should_stop: ShouldStop) -> dict[str, Any]:
    from ..io import read_scan
    from ..training.train import train

    path = out / 'scan_A.npz'
    sources = [str(path.absolute())]
    trained = train([read_scan(path).scan], config, out / 'model', sources=sources, emit=emit, should_stop=should_stop)
    if trained.trained.interrupted:
        raise Interrupted(f'Stopped while training; the model so far is {trained.model}.')
    return dict(trained.trained.summary)


def _reconstruct_all(out: Path, emit: Emit, should_stop: ShouldStop) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics by scan and method, each from a process of its own."""
    steps = [(name, method) for name in SCANS for method in METHODS]
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in SCANS}
    for i, (name, method) in enumerate(steps):
        emit(Progress(f'reconstruct {name}: {METHODS[method]}', i, len(steps)))
        folder = out / f'{name}_{method}'
        scan = str((out / f'scan_{name}.npz').absolute())
        _run([*_command(out, method), scan, '--truth', scan, '--output-dir', str(folder.absolute())], out, should_stop)
        values = json.loads((folder / 'metrics.json').read_text())
        found[name][method] = {key: values['image'][key] for key in COLUMNS} | {'residual': values['residual']}
    return found


def _command(out: Path, method: str) -> list[str]:
    if method == 'engine':
        return ['refine', '--passes', str(ENGINE_PASSES)]
    model = str((out / 'model' / 'model.safetensors').absolute())
    return ['reconstruct', '--model', model, '--passes', str(PASSES if method == 'refined' else 0)]


def _run(arguments: Sequence[str], folder: Path, should_stop: ShouldStop) -> None:
    """Run a command of ours in a new process, in `folder`; its error is our error."""
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *arguments, '--quiet']
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        while True:
            try:
                _, said = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                if should_stop():
                    process.terminate()
    if should_stop():
        raise Interrupted('Stopped while reconstructing; the model is complete.')
    if process.returncode:
        last = (said.strip().splitlines() or ['no message'])[-1].removeprefix('ptychopinn: error: ')
        raise PtychoPINNError(f'A step of the demo failed: {last}')


def _picture(out: Path, name: str) -> Path:
    """Truth, network alone, refined and engine side by side, on the area of the scan, global phase as in the truth."""
    from ..io import read_object, read_product, write_comparison
    from ..physics.scoring.metrics import compare

    scan = out / f'scan_{name}.npz'
    truth = read_object(scan)
    rows = []
    for method, title in METHODS.items():
        product = read_product(out / f'{name}_{method}' / 'product.h5')
        found = compare(product.object, product.origin, truth.object, truth.origin, product.positions)
        rows.append((title, found.result.astype('complex64')))
        shown = found.truth.astype('complex64')
    title = f'scan {name} ({TITLES[name]})'
    return write_comparison(out / f'comparison_{name}.png', [('truth', shown), *rows], title=title)


def _lines(summary: dict[str, Any]) -> list[str]:
    rows = [
        (f'{name} ({TITLES[name]}): {METHODS[method]}', *(f'{values[key]:.3f}' for key in COLUMNS), values['residual'])
        for name, methods in summary['results'].items()
        for method, values in methods.items()
    ]
    training = summary['training']
    tail = {
        'training': f'{training.get("cpu_seconds")} CPU s, {training.get("patterns_seen")} patterns seen',
        'whole demo': f'{summary["seconds"]} s',
        'model': summary['model'],
        'pictures': ', '.join(summary['pictures']),
    }
    return [*table(['', *COLUMNS.values(), 'residual'], rows), '', *pairs(tail)]
