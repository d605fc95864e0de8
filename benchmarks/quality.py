"""`make quality`: image quality and its cost, measured as a user would, through the command line.

Every case is a training and its reconstructions in processes of their own. Its figures are kept in
benchmarks/results.csv with machine, day and commit: the hours that all cases take may be spread over days and
machines, and an interrupted run goes on where it was. Models and raw JSON stay in .quality, which git ignores.
Writes benchmarks/QUALITY.md. A change of the method calls for --force on the cases that it concerns.

    python benchmarks/quality.py [--only PATTERN] [--list] [--force] [--quick] [--work DIR]
    make quality ARGS="--only 'real engine*'"

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

import quality_able
import quality_near_field
import quality_real
import quality_varied
from bench import cpu_model, say
from quality_cases import BUDGET, CASES, ROOT, CommandError, folder_of
from quality_reach import cases
from quality_tables import read, report, rows_of, write
from timing import cpu, gemm_reference

QUICK = 0.01  # of the time


ALL_CASES = {
    **CASES,
    **cases(),
    **quality_real.cases(),
    **quality_able.cases(),
    **quality_varied.cases(),
    **quality_near_field.cases(),
}


def measure(name: str, work: Path, table: Path) -> None:
    """Run a case; its raw JSON goes beside its folder, its lines take the place of earlier ones in results.csv."""
    key = folder_of(name)
    figures = ALL_CASES[name](work / key)
    origin = where_and_when()
    (work / f'{key}.json').write_text(json.dumps({'case': name, **origin, 'rows': figures}, indent=1) + '\n')
    rows = [row for row in read(table) if row['case'] != name] + rows_of(name, origin, figures)
    order = {case: i for i, case in enumerate(ALL_CASES)}
    write(table, sorted(rows, key=lambda row: order.get(row['case'], len(order))))


def measure_all(work: Path, table: Path, only: str, force: bool) -> None:
    """Run what has not been run; a case that fails is told and does not stop the others."""
    done = {row['case'] for row in read(table)}
    for name in fnmatch.filter(ALL_CASES, only):
        if name in done and not force:
            continue
        say(f'{name} ...')
        if force:
            shutil.rmtree(work / folder_of(name), ignore_errors=True)
        try:
            measure(name, work, table)
        except CommandError as error:
            say(f'{name} failed: {error}')


def where_and_when() -> dict[str, str]:
    """The machine, the day and the commit of a measurement."""
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True)
    speed = f'{matrix_rate():.0f} GFLOP/s in matrix products on one'
    return {
        'machine': f'{cpu_model()}, {os.cpu_count()} cores, {speed}, Python {platform.python_version()}',
        'day': time.strftime('%Y-%m-%d'),
        'commit': commit.stdout.strip(),
    }


def matrix_rate(repeats: int = 30) -> float:
    """GFLOP/s of one thread in matrix products by CPU time: what a budget in CPU seconds is worth on this machine."""
    import torch

    torch.set_num_threads(1)
    gemm = gemm_reference()
    gemm.run()
    return gemm.units / median(cpu(gemm.run) for _ in range(repeats))


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='*', help='names of cases, as a shell pattern')
    parser.add_argument('--force', action='store_true', help='run again what has been run')
    parser.add_argument('--list', action='store_true', help='name the cases and stop')
    parser.add_argument('--quick', action='store_true', help='a hundredth of the time; figures that mean nothing')
    parser.add_argument('--work', type=Path, help='folder of the runs [default: .quality, or .quality-quick]')
    options = parser.parse_args()
    if options.list:
        say('\n'.join(fnmatch.filter(ALL_CASES, options.only)))
        return
    work = options.work or ROOT / ('.quality-quick' if options.quick else '.quality')
    work.mkdir(parents=True, exist_ok=True)
    if options.quick:
        BUDGET.share = QUICK
    kept = work if options.quick else ROOT / 'benchmarks'
    measure_all(work, kept / 'results.csv', options.only, options.force)
    (kept / 'QUALITY.md').write_text(report(read(kept / 'results.csv')), encoding='utf-8')
    say(f'wrote {kept / "QUALITY.md"}')


if __name__ == '__main__':
    main()
