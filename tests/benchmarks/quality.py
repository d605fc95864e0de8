"""`make quality`: the acceptance tables of the issues, run as a user runs them, through the command line.

Every case is a training and its reconstructions in processes of their own; its figures are kept in .quality, so
that an interrupted run goes on where it was. Writes tests/benchmarks/QUALITY.md with the machine named.

    python tests/benchmarks/quality.py [--only PATTERN] [--force] [--work DIR]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / 'shared' / 'data'
STAR, REFERENCE = DATA / 'siemens_star_velociprobe.npz', DATA / 'siemens_star_reference.npz'
Figures = dict[str, Any]
MEASURED = ('phase_psnr', 'amplitude_psnr', 'frc_area', 'amplitude_ratio', 'residual')


class CommandError(Exception):
    """A command of the package ended with another exit code than 0."""


def run(*arguments: Any) -> Figures:
    """Run `ptychopinn ... --json` in a new process; what it printed."""
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor.cli', *map(str, arguments), '--json']
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {'CUDA_VISIBLE_DEVICES': ''})
    if done.returncode:
        raise CommandError(f'{" ".join(command[4:])}: exit {done.returncode}: {done.stderr.strip()[-500:]}')
    result: Figures = json.loads(done.stdout)
    return result


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


def train(folder: Path, *arguments: Any) -> Figures:
    """Train as a user does, unless an interrupted run has; CPU seconds, patterns seen."""
    model = folder / 'model.zip'
    if not model.exists() or run('inspect', model)['manifest']['training']['interrupted']:
        shutil.rmtree(folder, ignore_errors=True)
        run('train', *arguments, '--output-dir', folder)
    training = run('inspect', model)['manifest']['training']
    return {key: training.get(key) for key in ('cpu_seconds', 'patterns_seen', 'epochs', 'parameters')}


def reconstruct(folder: Path, scan: Path, truth: Path, passes: int, *arguments: Any) -> Figures:
    """Reconstruct with the model in `folder`, in a new process, and compare with the truth."""
    out = folder / f'{scan.stem}_{passes}'
    options = ('--model', folder / 'model.zip', '--truth', truth, '--refine', passes, '--output-dir', out)
    return figures(run('reconstruct', scan, *options, *arguments))


def engine(folder: Path, scan: Path, truth: Path, passes: int, *arguments: Any) -> Figures:
    """The classical engine alone."""
    out = folder / f'engine_{scan.stem}_{passes}'
    return figures(run('refine', scan, '--truth', truth, '--passes', passes, '--output-dir', out, *arguments))


def star_reference_probe(work: Path) -> Figures:
    """Real star, default settings, reference probe."""
    probe = ('--probe', f'{REFERENCE}:probe')
    rows = {'train': train(work, STAR, *probe)}
    rows |= {f'network + {n}': reconstruct(work, STAR, REFERENCE, n, *probe) for n in (0, 1, 2, 3)}
    return rows | {f'engine {n}': engine(work, STAR, REFERENCE, n, *probe) for n in (5, 20)}


def star_alone(work: Path) -> Figures:
    """Real star, the scan file alone: the probe is refined first, as in the README."""
    rows = {'train': train(work, STAR, '--refine-probe-first', 20)}
    rows |= {f'network + {n}': reconstruct(work, STAR, REFERENCE, n) for n in (0, 3)}
    return rows | {'engine 20 with probe': engine(work, STAR, REFERENCE, 20, '--refine-probe')}


def simulated(work: Path) -> Figures:
    """simulated_A trained on, simulated_B unseen."""
    a, b = DATA / 'simulated_A.npz', DATA / 'simulated_B.npz'
    rows = {'train': train(work, a)}
    rows |= {f'A network + {n}': reconstruct(work, a, a, n) for n in (0, 1, 2)}
    rows |= {f'B network + {n}': reconstruct(work, b, b, n) for n in (0, 2)}
    rows |= {f'A engine {n}': engine(work, a, a, n) for n in (5, 20, 40)}
    return rows | {'B engine 20': engine(work, b, b, 20)}


def supervised(work: Path) -> Figures:
    """Supervised on simulated_A, B unseen."""
    a, b = DATA / 'simulated_A.npz', DATA / 'simulated_B.npz'
    rows = {'train': train(work, a, '--model-type', 'supervised', '--max-cpu-seconds', 240)}
    rows |= {f'A network + {n}': reconstruct(work, a, a, n) for n in (0, 2)}
    return rows | {f'B network + {n}': reconstruct(work, b, b, n) for n in (0, 2)}


def small(gridsize: int, n: int, modes: int) -> Callable[[Path], Figures]:
    """A simulated scan, at most 60 CPU-s of training, 2 passes."""

    def case(work: Path) -> Figures:
        work.mkdir(parents=True, exist_ok=True)
        scan = work / 'scan.npz'
        scan.unlink(missing_ok=True)
        run('simulate', '--out', scan, '--n', n, '--step', n / 8, '--positions', 400, '--modes', modes)
        neighbors = () if gridsize == 1 else ('--neighbor-count', gridsize**2 - 1)
        rows = {'train': train(work / 'model', scan, '--gridsize', gridsize, *neighbors, '--max-cpu-seconds', 60)}
        rows |= {f'network + {p}': reconstruct(work / 'model', scan, scan, p) for p in (0, 2)}
        return rows | {'flat object': {'residual': flat_residual(scan)}}

    return case


def dose(photons: float) -> Callable[[Path], Figures]:
    """A simulated scan of few or many photons, at most 60 CPU-s of training: is the amplitude absolute?"""

    def case(work: Path) -> Figures:
        work.mkdir(parents=True, exist_ok=True)
        scan = work / 'scan.npz'
        scan.unlink(missing_ok=True)
        run('simulate', '--out', scan, '--positions', 400, '--photons', photons)
        rows = {'train': train(work / 'model', scan, '--max-cpu-seconds', 60)}
        rows |= {f'network + {p}': reconstruct(work / 'model', scan, scan, p) for p in (0, 1, 2)}
        return rows | {f'engine {n}': engine(work, scan, scan, n) for n in (5, 20)}

    return case


def flat_residual(scan: Path) -> float:
    """Residual of an empty object."""
    import numpy as np

    from ptychopinn_reconstructor.io import read_scan
    from ptychopinn_reconstructor.physics.prepare import prepare_scan
    from ptychopinn_reconstructor.physics.refine import residuals

    prepared = prepare_scan(read_scan(scan).scan)
    return residuals(prepared, np.ones(prepared.layout.shape, dtype=np.complex64)).overall


@dataclass(frozen=True)
class Goal:
    """A figure of a row that must lie between `low` and `high`."""

    case: str
    row: str
    key: str
    low: float = float('-inf')
    high: float = float('inf')


CASES: dict[str, Callable[[Path], Figures]] = {
    'star, reference probe': star_reference_probe,
    'star, scan file alone': star_alone,
    'simulated A and B': simulated,
    'supervised on A': supervised,
    **{f'gridsize {g}, N {n}, {m} mode(s)': small(g, n, m) for g in (1, 2) for n in (64, 128) for m in (1, 3)},
    **{f'{photons:.0e} photons': dose(photons) for photons in (1e3, 1e4, 1e7)},
}


def goals() -> Iterator[Goal]:
    """What issue 1 of 4 asks for."""
    star = 'star, reference probe'
    yield Goal(star, 'train', 'cpu_seconds', high=300)
    for key, low in (('phase_psnr', 30), ('amplitude_psnr', 20), ('frc_area', 0.45)):
        yield Goal(star, 'network + 0', key, low)
    yield Goal(star, 'network + 0', 'amplitude_ratio', 0.98, 1.02)
    for key, low in (('phase_psnr', 33), ('amplitude_psnr', 26), ('frc_area', 0.88)):
        yield Goal(star, 'network + 3', key, low)
    alone = 'star, scan file alone'
    yield Goal(alone, 'train', 'cpu_seconds', high=300)
    yield Goal(alone, 'network + 3', 'residual', high=0.016)
    for key, low in (('phase_psnr', 27.5), ('frc_area', 0.50)):
        yield Goal(alone, 'network + 3', key, low)
    both = 'simulated A and B'
    yield Goal(both, 'train', 'cpu_seconds', high=240)
    yield Goal(both, 'A network + 0', 'phase_psnr', 23)
    yield Goal(both, 'A network + 0', 'amplitude_ratio', 0.98, 1.02)
    for key, low in (('phase_psnr', 25), ('amplitude_psnr', 25.5), ('frc_area', 0.93)):
        yield Goal(both, 'A network + 2', key, low)
    for key, low in (('phase_psnr', 21), ('frc_area', 0.86)):
        yield Goal(both, 'B network + 2', key, low)
    yield Goal('supervised on A', 'A network + 0', 'phase_psnr', 23)
    yield Goal('supervised on A', 'A network + 0', 'amplitude_ratio', 0.98, 1.02)
    for case in (name for name in CASES if name.startswith('gridsize')):
        yield Goal(case, 'train', 'cpu_seconds', high=61)
        yield Goal(case, 'network + 2', 'phase_psnr', 18)
        yield Goal(case, 'network + 2', 'residual_to_flat', high=1 / 3)
    for case in (name for name in CASES if name.endswith('photons')):  # contracts.md, AMPLITUDE
        yield Goal(case, 'network + 0', 'amplitude_ratio', 0.98, 1.02)
        yield Goal(case, 'network + 2', 'amplitude_ratio', 0.98, 1.02)


def collect(work: Path, only: str, force: bool) -> dict[str, Figures]:
    """Run what has not been run; a case that fails is told and does not stop the others."""
    found: dict[str, Figures] = {}
    for name, case in CASES.items():
        key = ''.join(c if c.isalnum() else '_' for c in name)
        file = work / f'{key}.json'
        if (force or not file.exists()) and fnmatch.fnmatch(name, only):
            say(f'{name} ...')
            if force:
                shutil.rmtree(work / key, ignore_errors=True)
            try:
                rows = case(work / key)
            except CommandError as error:
                say(f'{name} failed: {error}')
                continue
            if 'flat object' in rows:
                rows['network + 2']['residual_to_flat'] = (
                    rows['network + 2']['residual'] / rows['flat object']['residual']
                )
            file.write_text(json.dumps(rows, indent=2))
        if file.exists():
            found[name] = json.loads(file.read_text())
    return found


def number(value: Any) -> str:
    """A figure as the tables show it."""
    if value is None:
        return ''
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def report(found: dict[str, Figures]) -> str:
    """QUALITY.md."""
    lines = ['# Quality', '', f'Measured by `make quality` on {machine()}, {time.strftime("%Y-%m-%d")}.', '']
    lines += ['PSNR in dB (ranges: amplitude 0.4, phase 2.4 rad), FRC area, amplitude ratio, normalized residual.', '']
    lines += ['## Goals', '', '| case | row | figure | asked | measured | |', '|---|---|---|---|---|---|']
    for goal in goals():
        value = found.get(goal.case, {}).get(goal.row, {}).get(goal.key)
        asked = ' to '.join(f'{x:.4g}' for x in (goal.low, goal.high) if abs(x) != float('inf'))
        sign = '>= ' if goal.high == float('inf') else '<= ' if goal.low == float('-inf') else ''
        verdict = '-' if value is None else 'met' if goal.low <= value <= goal.high else '**missed**'
        lines.append(f'| {goal.case} | {goal.row} | {goal.key} | {sign}{asked} | {number(value)} | {verdict} |')
    columns = (*MEASURED, 'cpu_seconds', 'patterns_seen', 'peak_memory_mib')
    for name, rows in found.items():
        lines += ['', f'## {name}', '', f'| row | {" | ".join(columns)} |', f'|---|{"---|" * len(columns)}']
        lines += [f'| {row} | {" | ".join(number(v.get(c)) for c in columns)} |' for row, v in rows.items()]
    return '\n'.join(lines) + '\n'


def machine() -> str:
    """The machine, in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        names = [line.split(':', 1)[1].strip() for line in cpuinfo.read_text().splitlines() if 'model name' in line]
        model = names[0] if names else model
    return f'{model}, {os.cpu_count()} cores, Python {platform.python_version()}'


def say(text: str) -> None:
    """A line on the terminal."""
    sys.stderr.write(text + '\n')


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='*', help='names of cases, as a shell pattern')
    parser.add_argument('--force', action='store_true', help='run again what has been run')
    parser.add_argument('--work', type=Path, default=ROOT / '.quality')
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = collect(options.work, options.only, options.force)
    target = ROOT / 'tests' / 'benchmarks' / 'QUALITY.md'
    target.write_text(report(found))
    say(f'wrote {target}')


if __name__ == '__main__':
    main()
