"""The cases of `make quality`: a training and its reconstructions, each command in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / 'shared' / 'data'
STAR, REFERENCE = DATA / 'siemens_star_velociprobe.npz', DATA / 'siemens_star_reference.npz'
A, B = DATA / 'simulated_A.npz', DATA / 'simulated_B.npz'
TENSORFLOW = 'TensorFlow: '  # before the name of a case: the same one, trained and reconstructed by TensorFlow
EXCHANGED = 'one model, both backends'
Figures = dict[str, Any]
Case = Callable[[Path], Figures]  # gets a folder of its own, returns the rows of its table
MEASURED = ('phase_psnr', 'amplitude_psnr', 'frc_area', 'amplitude_ratio', 'residual')
JUDGED = MEASURED[:3]  # the figures of which the engine's best is looked for


def folder_of(case: str) -> str:
    """The name of a case's folder."""
    return ''.join(c if c.isalnum() else '_' for c in case)


class CommandError(Exception):
    """A command ended with another exit code than 0."""


@dataclass
class Budget:
    """What part of the time of each training, and of the passes of the engine, is spent: less than 1 to try it out."""

    share: float = 1.0

    def seconds(self, full: float) -> float:
        """CPU seconds of a training that gets `full` in earnest."""
        return full * self.share

    def passes(self, full: int) -> int:
        """Passes of a long run of the engine."""
        return max(3, round(full * self.share))


BUDGET = Budget()
UNLIMITED = 600.0  # CPU seconds, above what a training without a limit takes, of which --quick spends a share


def run(*arguments: Any) -> Figures:
    """Run `ptychopinn ... --json` in a new process; what it printed."""
    if arguments[0] in ('train', 'pretrain') and '--max-cpu-seconds' not in arguments and BUDGET.share < 1:
        arguments = (*arguments, '--max-cpu-seconds', BUDGET.seconds(UNLIMITED))
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', *map(str, arguments), '--json']
    return dict(_told(command))


def script(name: str, *arguments: Any) -> Any:
    """Run a script of this folder in a new process; the JSON that it printed."""
    return _told([sys.executable, '-P', str(Path(__file__).with_name(name)), *map(str, arguments)])


def _told(command: list[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'CUDA_VISIBLE_DEVICES': ''})
    if done.returncode:
        raise CommandError(f'{" ".join(command[3:])}: exit {done.returncode}: {done.stderr.strip()[-500:]}')
    return json.loads(done.stdout)


def figures(result: Figures, image: str = 'image') -> Figures:
    """The figures of the tables out of what reconstruct, refine or metrics.json tell."""
    scores = result.get(image) or {}
    stages = {name: stage['cpu_seconds'] for name, stage in result['stages'].items()}
    row = {key: scores[key] for key in MEASURED if key in scores}
    return row | {
        'residual': result['residual'],
        'cpu_seconds': round(sum(stages.values()), 2),
        'stages': stages,
        'peak_memory_mib': result['peak_memory_mib'],
    }


def train(folder: Path, *arguments: Any, command: str = 'train') -> Figures:
    """Train (or pretrain) as a user does, unless an interrupted run has; CPU seconds, patterns seen."""
    model = folder / 'model.safetensors'
    if not model.exists() or run('inspect', model)['manifest']['training']['interrupted']:
        shutil.rmtree(folder, ignore_errors=True)
        run(command, *arguments, '--output-dir', folder)
    training = run('inspect', model)['manifest']['training']
    return {key: training.get(key) for key in ('cpu_seconds', 'patterns_seen', 'epochs', 'parameters')}


def reconstruct(folder: Path, scan: Path, truth: Path, passes: int, *arguments: Any) -> Figures:
    """Reconstruct with the model in `folder`, in a new process, and compare with the truth."""
    out = folder / f'{scan.stem}_{passes}'
    options = ('--model', folder / 'model.safetensors', '--truth', truth, '--passes', passes, '--output-dir', out)
    return figures(run('reconstruct', scan, *options, *arguments))


def engine(folder: Path, scan: Path, truth: Path, passes: int, *arguments: Any) -> Figures:
    """The classical engine alone."""
    out = folder / f'engine_{scan.stem}_{passes}'
    return figures(run('refine', scan, '--truth', truth, '--passes', passes, '--output-dir', out, *arguments))


def star_reference_probe(backend: str, work: Path) -> Figures:
    """Real star, default settings, reference probe."""
    options = ('--probe', f'{REFERENCE}:probe', '--backend', backend)
    rows = {'train': train(work, STAR, *options)}
    return rows | {f'network + {n}': reconstruct(work, STAR, REFERENCE, n, *options) for n in (0, 1, 2, 3)}


def star_engine(work: Path) -> Figures:
    """Real star, reference probe, no network."""
    return {f'engine {n}': engine(work, STAR, REFERENCE, n, '--probe', f'{REFERENCE}:probe') for n in (5, 20)}


def star_alone(work: Path) -> Figures:
    """Real star, the scan file alone: the probe is refined first, as in the README."""
    rows = {'train': train(work, STAR, '--refine-probe-first', 20)}
    rows |= {f'network + {n}': reconstruct(work, STAR, REFERENCE, n) for n in (0, 3)}
    return rows | {'engine 20 with probe': engine(work, STAR, REFERENCE, 20, '--refine-probe')}


def simulated(backend: str, work: Path) -> Figures:
    """simulated_A trained on, simulated_B unseen."""
    rows = {'train': train(work, A, '--backend', backend)}
    rows |= {f'A network + {n}': reconstruct(work, A, A, n, '--backend', backend) for n in (0, 1, 2)}
    return rows | {f'B network + {n}': reconstruct(work, B, B, n, '--backend', backend) for n in (0, 2)}


def simulated_engine(work: Path) -> Figures:
    """simulated_A and B, no network."""
    rows = {f'A engine {n}': engine(work, A, A, n) for n in (5, 20, 40)}
    return rows | {'B engine 20': engine(work, B, B, 20)}


def supervised(backend: str, work: Path, *options: Any) -> Figures:
    """Supervised on simulated_A, B unseen."""
    rows = {'train': train(work, A, '--model-type', 'supervised', '--backend', backend, *options)}
    rows |= {f'A network + {n}': reconstruct(work, A, A, n, '--backend', backend) for n in (0, 2)}
    return rows | {f'B network + {n}': reconstruct(work, B, B, n, '--backend', backend) for n in (0, 2)}


def small(backend: str, gridsize: int, n: int, modes: int) -> Case:
    """A simulated scan, at most 60 CPU-s of training, 2 passes."""

    def case(work: Path) -> Figures:
        work.mkdir(parents=True, exist_ok=True)
        scan = work / 'scan.npz'
        scan.unlink(missing_ok=True)
        run('simulate', '--out', scan, '--n', n, '--step', n / 8, '--positions', 400, '--modes', modes)
        neighbors = () if gridsize == 1 else ('--neighbor-count', gridsize**2 - 1)
        options = ('--gridsize', gridsize, *neighbors, '--max-cpu-seconds', BUDGET.seconds(60), '--backend', backend)
        rows = {'train': train(work / 'model', scan, *options)}
        rows |= {f'network + {p}': reconstruct(work / 'model', scan, scan, p, '--backend', backend) for p in (0, 2)}
        flat = flat_residual(scan)
        rows['network + 2']['residual_to_flat'] = rows['network + 2']['residual'] / flat
        return rows | {'flat object': {'residual': flat}}

    return case


def dose(backend: str, photons: float) -> Case:
    """A simulated scan of few or many photons, at most 60 CPU-s of training: is the amplitude absolute?"""

    def case(work: Path) -> Figures:
        work.mkdir(parents=True, exist_ok=True)
        scan = work / 'scan.npz'
        scan.unlink(missing_ok=True)
        run('simulate', '--out', scan, '--positions', 400, '--photons', photons)
        rows = {'train': train(work / 'model', scan, '--max-cpu-seconds', BUDGET.seconds(60), '--backend', backend)}
        for p in (0, 1, 2):
            rows[f'network + {p}'] = reconstruct(work / 'model', scan, scan, p, '--backend', backend)
        return rows | {f'engine {n}': engine(work, scan, scan, n) for n in (5, 20)}

    return case


def flat_residual(scan: Path) -> float:
    """Residual of an empty object."""
    import numpy as np

    from ptychopinn_reconstructor.io import read_scan
    from ptychopinn_reconstructor.physics.engine.residuals import residuals
    from ptychopinn_reconstructor.physics.prepare import prepare_scan

    prepared = prepare_scan(read_scan(scan).scan)
    return residuals(prepared, np.ones(prepared.layout.shape, dtype=np.complex64)).overall


def exchanged(work: Path) -> Figures:
    """The models that both backends have trained in other cases: what the objects of both differ by."""
    rows = {}
    star = (STAR, '--probe', f'{REFERENCE}:probe')
    for what, case, scan in (('simulated A', 'simulated A and B', (A,)), ('star', 'star, reference probe', star)):
        for backend, prefix in (('PyTorch', ''), ('TensorFlow', TENSORFLOW)):
            model = work.parent / folder_of(prefix + case) / 'model.safetensors'
            if not model.exists():
                raise CommandError(f'{model} is not there; run the case {prefix + case!r} first')
            difference = object_difference(work / f'{what}, {backend}', model, *scan)
            rows[f'{what}, trained by {backend}'] = {'object_difference': difference}
    return rows


def object_difference(folder: Path, model: Path, *scan: Any) -> float:
    """Largest difference of the objects that both backends make with a model, of the amplitude range."""
    from ptychopinn_reconstructor.experiments.agreement import relative_difference
    from ptychopinn_reconstructor.io import read_object

    objects = []
    for backend in ('torch', 'tensorflow'):
        run('reconstruct', *scan, '--model', model, '--output-dir', folder / backend, '--backend', backend)
        objects.append(read_object(folder / backend / 'product.h5').object)
    return relative_difference(*objects)


def joined(*parts: Case) -> Case:
    """The rows of several cases in one table."""
    return lambda work: {row: figures for part in parts for row, figures in part(work).items()}


CASES: dict[str, Case] = {
    'star, reference probe': joined(partial(star_reference_probe, 'torch'), star_engine),
    'star, scan file alone': star_alone,
    'simulated A and B': joined(partial(simulated, 'torch'), simulated_engine),
    'supervised on A': lambda work: supervised('torch', work, '--max-cpu-seconds', BUDGET.seconds(240)),
    **{f'gridsize {g}, N {n}, {m} mode(s)': small('torch', g, n, m) for g in (1, 2) for n in (64, 128) for m in (1, 3)},
    **{f'{photons:.0e} photons': dose('torch', photons) for photons in (1e3, 1e4, 1e5, 1e6, 1e7)},
    f'{TENSORFLOW}star, reference probe': partial(star_reference_probe, 'tensorflow'),
    f'{TENSORFLOW}simulated A and B': partial(simulated, 'tensorflow'),
    f'{TENSORFLOW}supervised on A': partial(supervised, 'tensorflow'),
    f'{TENSORFLOW}gridsize 2, N 64, 3 mode(s)': small('tensorflow', 2, 64, 3),
    f'{TENSORFLOW}{1e4:.0e} photons': dose('tensorflow', 1e4),
    EXCHANGED: exchanged,
}
