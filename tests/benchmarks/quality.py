"""`make quality`: the acceptance tables of the issues, run as a user runs them, through the command line.

Every case is a training and its reconstructions in processes of their own; its figures are kept in .quality, so
that an interrupted run goes on where it was. Writes tests/benchmarks/QUALITY.md with the machine named.

    python tests/benchmarks/quality.py [--only PATTERN] [--force] [--work DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from bench import cpu_model, say
from quality_cases import CASES, EXCHANGED, MEASURED, ROOT, TENSORFLOW, CommandError, Figures, folder_of

COLUMNS = (*MEASURED, 'object_difference', 'cpu_seconds', 'patterns_seen', 'peak_memory_mib')
TOLERANCE_DB = 1.0  # by which a PSNR of TensorFlow may lie below what PyTorch is asked for


@dataclass(frozen=True)
class Goal:
    """A figure of a row that must lie between `low` and `high`."""

    case: str
    row: str
    key: str
    low: float = float('-inf')
    high: float = float('inf')


def goals() -> Iterator[Goal]:
    """What issues 1 and 3 of 4 ask for."""
    yield from pytorch_goals()
    for goal in pytorch_goals():  # with the same settings, but not within the same time
        if TENSORFLOW + goal.case in CASES and goal.key != 'cpu_seconds':
            low = goal.low - TOLERANCE_DB * goal.key.endswith('_psnr')
            yield replace(goal, case=TENSORFLOW + goal.case, low=low)
    for what, backend in product(('simulated A', 'star'), ('PyTorch', 'TensorFlow')):
        yield Goal(EXCHANGED, f'{what}, trained by {backend}', 'object_difference', high=1e-5)


def pytorch_goals() -> Iterator[Goal]:
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
    torch_cases = [name for name in CASES if not name.startswith(TENSORFLOW)]
    for case in (name for name in torch_cases if name.startswith('gridsize')):
        yield Goal(case, 'train', 'cpu_seconds', high=61)
        yield Goal(case, 'network + 2', 'phase_psnr', 18)
        yield Goal(case, 'network + 2', 'residual_to_flat', high=1 / 3)
    for case in (name for name in torch_cases if name.endswith('photons')):  # contracts.md, AMPLITUDE
        yield Goal(case, 'network + 0', 'amplitude_ratio', 0.98, 1.02)
        yield Goal(case, 'network + 2', 'amplitude_ratio', 0.98, 1.02)


def collect(work: Path, only: str, force: bool) -> dict[str, Figures]:
    """Run what has not been run; a case that fails is told and does not stop the others."""
    found: dict[str, Figures] = {}
    for name, case in CASES.items():
        key = folder_of(name)
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
    machine = f'{cpu_model()}, {os.cpu_count()} cores, Python {platform.python_version()}'
    lines = ['# Quality', '', f'Measured by `make quality` on {machine}, {time.strftime("%Y-%m-%d")}.', '']
    lines += ['PSNR in dB (ranges: amplitude 0.4, phase 2.4 rad), FRC area, amplitude ratio, normalized residual;']
    lines += ['object_difference: the largest between the objects of both backends, of the amplitude range.', '']
    lines += ['## Goals', '', '| case | row | figure | asked | measured | |', '|---|---|---|---|---|---|']
    for goal in goals():
        value = found.get(goal.case, {}).get(goal.row, {}).get(goal.key)
        asked = ' to '.join(f'{x:.4g}' for x in (goal.low, goal.high) if abs(x) != float('inf'))
        sign = '>= ' if goal.high == float('inf') else '<= ' if goal.low == float('-inf') else ''
        verdict = '-' if value is None else 'met' if goal.low <= value <= goal.high else '**missed**'
        lines.append(f'| {goal.case} | {goal.row} | {goal.key} | {sign}{asked} | {number(value)} | {verdict} |')
    for name, rows in found.items():
        columns = [c for c in COLUMNS if any(row.get(c) is not None for row in rows.values())]
        lines += ['', f'## {name}', '', f'| row | {" | ".join(columns)} |', f'|---|{"---|" * len(columns)}']
        lines += [f'| {row} | {" | ".join(number(v.get(c)) for c in columns)} |' for row, v in rows.items()]
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='*', help='names of cases, as a shell pattern')
    parser.add_argument('--force', action='store_true', help='run again what has been run')
    parser.add_argument('--work', type=Path, default=ROOT / '.quality')
    parser.add_argument('--out', type=Path, default=ROOT / 'tests' / 'benchmarks' / 'QUALITY.md')
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = collect(options.work, options.only, options.force)
    options.out.write_text(report(found))
    say(f'wrote {options.out}')


if __name__ == '__main__':
    main()
