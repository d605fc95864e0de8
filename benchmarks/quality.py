"""`make quality`: the acceptance tables of the issues, run as a user runs them, through the command line.

Every case is a training and its reconstructions in processes of their own. Its figures are kept in
benchmarks/quality, one file a case with machine, day and commit, and belong to the repository: the hours that all
cases take may be spread over days and machines, and an interrupted run goes on where it was. Models stay in .quality.
Writes benchmarks/QUALITY.md. A change of the method calls for --force on the cases that it concerns.

    python benchmarks/quality.py [--only PATTERN] [--list] [--force] [--quick] [--work DIR] [--out FILE]

`--quick` spends a hundredth of the time, to see that everything runs; its figures mean nothing and go elsewhere.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import cpu_model, say
from quality_cases import BUDGET, CASES, MEASURED, ROOT, CommandError, Figures, folder_of
from quality_goals import FIRST, REACH, Goal, goals
from quality_reach import SEEDS, cases
from timing import cpu, gemm_reference

COLUMNS = (
    *MEASURED, 'phase_psnr_below_true', 'amplitude_psnr_below_true', 'object_difference', 'schedule', 'passes',
    'correlation_details', 'correlation_all', 'uncertainty_rms', 'details_rms', 'split_seventh_px',
    'split_half_bit_px', 'truth_half_px', 'cpu_seconds', 'patterns_seen', 'peak_memory_mib',
)  # fmt: skip
QUICK = 0.01  # of the time


class Kept(NamedTuple):
    """The figures of a case, and where and when they were measured."""

    measured: str
    rows: Figures


ALL_CASES = {**CASES, **cases()}


def collect(work: Path, kept: Path, only: str, force: bool) -> dict[str, Kept]:
    """Run what has not been run; a case that fails is told and does not stop the others."""
    found: dict[str, Kept] = {}
    for name, case in ALL_CASES.items():
        key = folder_of(name)
        file = kept / f'{key}.json'
        if (force or not file.exists()) and fnmatch.fnmatch(name, only):
            say(f'{name} ...')
            if force:
                shutil.rmtree(work / key, ignore_errors=True)
            try:
                rows = case(work / key)
            except CommandError as error:
                say(f'{name} failed: {error}')
                continue
            file.write_text(json.dumps({'case': name, 'measured': where_and_when(), 'rows': rows}, indent=1) + '\n')
        if file.exists():
            values = json.loads(file.read_text())
            found[name] = Kept(values['measured'], values['rows'])
    return found


def where_and_when() -> str:
    """The machine, the day and the commit of a measurement."""
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True)
    at = f', commit {commit.stdout.strip()}' if not commit.returncode else ''
    speed = f'{matrix_rate():.0f} GFLOP/s in matrix products on one'
    machine = f'{cpu_model()}, {os.cpu_count()} cores, {speed}, Python {platform.python_version()}'
    return f'{machine}, {time.strftime("%Y-%m-%d")}{at}'


def matrix_rate(repeats: int = 30) -> float:
    """GFLOP/s of one thread in matrix products by CPU time: what a budget in CPU seconds is worth on this machine."""
    import torch

    torch.set_num_threads(1)
    gemm = gemm_reference()
    gemm.run()
    return gemm.units / median(cpu(gemm.run) for _ in range(repeats))


def number(value: Any) -> str:
    """A figure as the tables show it."""
    if value is None:
        return ''
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def report(kept: dict[str, Kept]) -> str:
    """QUALITY.md."""
    found = {name: case.rows for name, case in kept.items()}
    lines = ['# Quality', '', 'Measured by `make quality`; where and when stands with each case.', '']
    lines += ['PSNR in dB (ranges: amplitude 0.4, phase 2.4 rad), FRC area, amplitude ratio, normalized residual;']
    lines += ['object_difference: the largest between the objects of both backends, of the amplitude range;']
    lines += ['times as fast: inf where the engine got there in none of its runs.', '']
    for issue in (REACH, FIRST):
        lines += [f'## {issue}', '', '| case | row | figure | asked | measured | |', '|---|---|---|---|---|---|']
        lines += [goal_line(goal, found) for goal in goals() if goal.issue == issue]
        lines.append('')
    for name, rows in found.items():
        rows = {row: values for row, values in rows.items() if 'points' not in values}
        columns = [c for c in COLUMNS if any(row.get(c) is not None for row in rows.values())]
        lines += [f'## {name}', '', kept[name].measured, '']
        lines += [f'| row | {" | ".join(columns)} |', f'|---|{"---|" * len(columns)}']
        lines += [f'| {row} | {" | ".join(number(v.get(c)) for c in columns)} |' for row, v in rows.items()]
        lines.append('')
    return '\n'.join(lines)


def goal_line(goal: Goal, found: dict[str, Figures]) -> str:
    """A line of the table of goals; says on how many of the seeds a median rests while some are missing."""
    value, count = goal.measured(found)
    verdict = '-' if value is None else 'met' if goal.low <= value <= goal.high else '**missed**'
    if '*' in goal.case and 0 < count < len(SEEDS):
        verdict += f' ({count} of {len(SEEDS)} seeds)'
    case = goal.case.replace(', seed *', ', median of 3 seeds')
    return f'| {case} | {goal.row} | {goal.figure} | {goal.asked} | {number(value)} | {verdict} |'


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='*', help='names of cases, as a shell pattern')
    parser.add_argument('--force', action='store_true', help='run again what has been run')
    parser.add_argument('--list', action='store_true', help='name the cases and stop')
    parser.add_argument('--quick', action='store_true', help='a hundredth of the time; figures that mean nothing')
    parser.add_argument('--work', type=Path, help='folder of the runs [default: .quality, or .quality-quick]')
    parser.add_argument('--out', type=Path, help='report [default: benchmarks/QUALITY.md, or in the folder]')
    options = parser.parse_args()
    if options.list:
        say('\n'.join(fnmatch.filter(ALL_CASES, options.only)))
        return
    work = options.work or ROOT / ('.quality-quick' if options.quick else '.quality')
    out = options.out or (work if options.quick else ROOT / 'tests' / 'benchmarks') / 'QUALITY.md'
    if options.quick:
        BUDGET.share = QUICK
    kept = work if options.quick else ROOT / 'tests' / 'benchmarks' / 'quality'
    for folder in (work, kept):
        folder.mkdir(parents=True, exist_ok=True)
    out.write_text(report(collect(work, kept, options.only, options.force)))
    say(f'wrote {out}')


if __name__ == '__main__':
    main()
