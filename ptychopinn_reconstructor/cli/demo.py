"""`ptychopinn demo`: from nothing to pictures in a few minutes.

Trains in this process; every reconstruction happens in a new one that knows only the files, as a user's would.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import Interrupted, PtychoPINNError
from ..experiments.steps import ScoredResult, Steps, Truth, check_backends
from ..io import read_object, read_scan, write_comparison, write_npz
from ..physics.scoring.metrics import LEADING, Comparison
from ..physics.simulation.simulate import simulate
from ..training.folder import MODEL
from ..training.train import train
from .app import debug_option, json_option
from .folders import check_output_folder
from .logs import job_output_options
from .progress import ProgressBar
from .report import format_pairs, format_table, show
from .stopping import catch_stop_signals

SCANS = {'A': ('cells', 0), 'B': ('leaves', 1)}  # name: kind of object, offset of the seed
TITLES = {'A': 'trained on', 'B': 'never seen'}
PASSES, ENGINE_PASSES = 2, 20
GOOD_ENOUGH = 20.0  # dB of phase PSNR that the trained object must reach
METHODS = {
    'network': 'network alone',
    'refined': f'network + {PASSES} passes',
    'engine': f'engine alone, {ENGINE_PASSES} passes',
}
Objects = dict[tuple[str, str], ScoredResult]  # by scan and method


@click.command()
@click.option('--out', default='demo', show_default=True, type=click.Path(path_type=Path), help='Folder for all files.')
@click.option(
    '--seed', type=click.IntRange(0), default=0, show_default=True, help='Seed of the scans and the training.'
)
@click.option(
    '--max-cpu-seconds',
    type=click.FloatRange(1),
    default=150.0,
    show_default=True,
    help='CPU time of the training, seconds.',
)
@click.option('--positions', type=click.IntRange(64), default=1024, show_default=True, help='Patterns of each scan.')
@click.option('--backend', default=Config().execution.backend, show_default=True, help='Backend to train with.')
@json_option
@job_output_options
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
    with catch_stop_signals() as should_stop, ProgressBar('simulate', quiet=quiet) as bar:
        check_backends([backend])  # not there: found before anything is written
        for name in SCANS:
            _write_scan(out, name, seed, positions)
        steps = Steps(bar.emit, should_stop)
        trained = _train(out, config, steps)
        found = _reconstruct_all(out, steps)
        pictures = [str(_draw(out, name, found)) for name in SCANS]
    metrics = {name: {method: _collect_figures(found[name, method]) for method in METHODS} for name in SCANS}
    summary = {
        'seconds': round(time.monotonic() - start, 1),
        'training': trained,
        'model': str(out / 'model' / MODEL),
        'results': metrics,
        'pictures': pictures,
    }
    if as_json or not quiet:
        show(summary, as_json=as_json, text=_format_lines(summary))
    _check_reached(metrics['A']['refined']['phase_psnr'])


def _check_reached(phase_psnr: float) -> None:
    """PtychoPINNError when the object of scan A is not as good as it must be."""
    if phase_psnr < GOOD_ENOUGH:
        raise PtychoPINNError(
            f'The phase PSNR of scan A is {phase_psnr:.1f} dB, below {GOOD_ENOUGH:g} dB: the demo failed.'
        )


def _write_scan(out: Path, name: str, seed: int, positions: int) -> None:
    """A scan of SCANS with its true object, N = 64."""
    kind, offset = SCANS[name]
    write_npz(out / f'scan_{name}.npz', simulate(object=kind, seed=2 * seed + offset, positions=positions))


def _train(out: Path, config: Config, steps: Steps) -> dict[str, Any]:
    """In this process, so that the progress bar can show the epochs."""
    path = out / 'scan_A.npz'
    sources = [str(path.absolute())]
    scan, folder, emit, should_stop = read_scan(path).scan, out / 'model', steps.emit, steps.should_stop
    trained = train([scan], config, folder, sources=sources, emit=emit, should_stop=should_stop)
    if trained.trained.interrupted:
        raise Interrupted(f'Stopped while training; the model so far is {trained.model}.')
    return dict(trained.trained.summary)


def _reconstruct_all(out: Path, steps: Steps) -> Objects:
    """Each scan by each method, in a process of its own, compared with the truth."""
    steps.total, found = len(SCANS) * len(METHODS), {}
    for name in SCANS:
        scan = (out / f'scan_{name}.npz').absolute()
        truth = Truth(read_object(scan))
        for method, title in METHODS.items():
            (command, *options), stage = _list_arguments(out, method), f'reconstruct {name}: {title}'
            line = [command, str(scan), *options, '--truth', str(scan)]
            found[name, method] = steps.reconstruct(stage, 'A step of the demo', line, out / f'{name}_{method}', truth)
            steps.done += 1
    return found


def _list_arguments(out: Path, method: str) -> list[str]:
    if method == 'engine':
        return ['refine', '--passes', str(ENGINE_PASSES)]
    model = str((out / 'model' / MODEL).absolute())
    return ['reconstruct', '--model', model, '--passes', str(PASSES if method == 'refined' else 0)]


def _collect_figures(found: ScoredResult) -> dict[str, float]:
    """The leading figures and the residual of a result; PtychoPINNError where it cannot be compared."""
    values = _require_image(found).to_dict()
    return {key: values[key] for key in LEADING} | {'residual': found.metrics['residual']}


def _require_image(found: ScoredResult) -> Comparison:
    if found.image is None:
        raise PtychoPINNError(f'The demo failed: {found.unscored}')
    return found.image


def _draw(out: Path, name: str, found: Objects) -> Path:
    """Truth, network alone, refined and engine side by side, on the area of the scan, global phase as in the truth."""
    images = {title: _require_image(found[name, method]) for method, title in METHODS.items()}
    rows = [('truth', images[METHODS['engine']].truth), *((title, image.result) for title, image in images.items())]
    title = f'scan {name} ({TITLES[name]})'
    path = out / f'comparison_{name}.png'
    return write_comparison(path, [(title, values.astype('complex64')) for title, values in rows], title=title)


def _format_lines(summary: dict[str, Any]) -> list[str]:
    rows = [
        (f'{name} ({TITLES[name]}): {METHODS[method]}', *(f'{values[key]:.3f}' for key in LEADING), values['residual'])
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
    return [*format_table(['', *LEADING.values(), 'residual'], rows), '', *format_pairs(tail)]
