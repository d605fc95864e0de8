"""The command line as a user runs it, in new processes: CPU and wall time by stage, imports, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from import_cost import REPEATS, cpu_seconds

THREADS = {name: '1' for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')}
CLI = ('-P', '-m', 'ptychopinn_reconstructor.cli')
POLL_SECONDS = 0.01
FRAMEWORK_REPEATS = 3  # of importing torch and lightning, which takes seconds
PATTERN_KIB = 8  # 64 x 64 pixels of 16 bits
Cells = tuple[str, str, str, str]  # what, value, ratio, to what


@dataclass(frozen=True)
class Usage:
    """What the operating system says of a process that has ended; memory in MiB (anonymous: None where unknown)."""

    wall: float
    cpu: float
    peak: float
    anonymous: float | None
    output: str
    errors: str


def environment(work: Path) -> dict[str, str]:
    """One thread, no GPU, and no compiled kernels from an earlier run."""
    return os.environ | THREADS | {'CUDA_VISIBLE_DEVICES': '', 'TORCHINDUCTOR_CACHE_DIR': str(work / 'inductor')}


def spawn(work: Path, *arguments: Any) -> Usage:
    """Run this Python with `arguments` and watch it; a failure raises CalledProcessError."""
    command = [sys.executable, *map(str, arguments)]
    out, err = work / 'stdout', work / 'stderr'
    with out.open('w') as stdout, err.open('w') as stderr:
        start, anonymous = time.perf_counter(), 0.0
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment(work))
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            anonymous = max(anonymous, anonymous_mib(process.pid))
            time.sleep(POLL_SECONDS)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for here
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out.read_text(), err.read_text())
    unit = 2**20 if sys.platform == 'darwin' else 2**10
    used = usage.ru_utime + usage.ru_stime
    return Usage(wall, used, usage.ru_maxrss / unit, anonymous or None, out.read_text(), err.read_text())


def anonymous_mib(pid: int) -> float:
    """Resident anonymous memory of a process now (Linux), 0 where it cannot be read: mapped files do not count."""
    try:
        for line in Path(f'/proc/{pid}/status').read_text().splitlines():
            if line.startswith('RssAnon:'):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    return 0.0


def import_rows() -> Iterator[Cells]:
    """What importing costs, as in import_cost.py."""
    base = 'import numpy, pydantic'
    statements = (base, f'{base}; import ptychopinn_reconstructor', 'import torch', 'import lightning.pytorch')
    times: dict[str, list[float]] = {statement: [] for statement in statements}
    for repeat in range(REPEATS):
        for statement in statements[: 2 if repeat >= FRAMEWORK_REPEATS else None]:
            times[statement].append(cpu_seconds(statement))
    middle = {statement: sorted(values)[len(values) // 2] for statement, values in times.items()}
    above = middle[statements[1]] - middle[base]
    yield f'`{base}`', f'{middle[base]:.3f} s', '', ''
    yield 'import ptychopinn_reconstructor, above that', f'{above:.3f} s', f'{above / middle[base]:.2f}', f'`{base}`'
    for statement in statements[2:]:
        yield f'`{statement}`', f'{middle[statement]:.2f} s', f'{middle[statement] / middle[base]:.1f}', f'`{base}`'


def command_line_rows(work: Path, sizes: tuple[int, int]) -> Iterator[Cells]:
    """Train two epochs on the smaller scan, then reconstruct both."""
    scans = {size: work / f'scan_{size}.npz' for size in sizes}
    for size, scan in scans.items():
        spawn(work, *CLI, 'simulate', '--out', scan, '--positions', size, '--quiet')
    model = work / 'model' / 'model.zip'
    trained = spawn(work, *CLI, 'train', scans[sizes[0]], '--output-dir', model.parent, '--epochs', 2, '--quiet')
    bare = spawn(work, '-P', '-c', 'import torch, lightning.pytorch')
    yield 'memory of `import torch, lightning.pytorch`', memory(bare), '', ''
    yield from whole_rows(f'train, 2 epochs of {sizes[0]} patterns', trained, bare)
    runs = {size: reconstruct(work, model, scan) for size, scan in scans.items()}
    for size, (usage, _) in runs.items():
        yield from whole_rows(f'reconstruct, {size} patterns', usage, bare)
    for size, (usage, stages) in runs.items():
        yield from stage_rows(size, usage, stages)
    yield from import_time_rows(work, model, scans[sizes[0]], runs[sizes[0]][0])
    yield from growth_rows(sizes, *(runs[size][0] for size in sizes))


def reconstruct(work: Path, model: Path, scan: Path, *flags: str) -> tuple[Usage, dict[str, dict[str, float]]]:
    """Reconstruct without refinement; usage and the stages it tells itself."""
    options = ('--model', model, '--output-dir', work / f'out_{scan.stem}', '--json', '--quiet')
    usage = spawn(work, *flags, *CLI, 'reconstruct', scan, *options)
    return usage, json.loads(usage.output)['stages']


def memory(usage: Usage) -> str:
    """Peak of resident memory, and the anonymous part's own."""
    anonymous = '' if usage.anonymous is None else f', anonymous {usage.anonymous:.0f} MiB'
    return f'{usage.peak:.0f} MiB{anonymous}'


def whole_rows(what: str, usage: Usage, bare: Usage) -> Iterator[Cells]:
    """Time and memory of a process."""
    yield f'{what}: CPU', f'{usage.cpu:.2f} s', f'{usage.cpu / usage.wall:.2f}', f'wall time, {usage.wall:.2f} s'
    yield f'{what}: peak memory', memory(usage), f'{usage.peak / bare.peak:.2f}', 'bare import'


def stage_rows(size: int, usage: Usage, stages: dict[str, dict[str, float]]) -> Iterator[Cells]:
    """CPU and wall time of the stages, and of all that is in none: imports, reading, writing, pictures."""
    seconds = {name: (stage['cpu_seconds'], stage['wall_seconds']) for name, stage in stages.items()}
    cpu, wall = (sum(column) for column in zip(*seconds.values(), strict=True))
    seconds['start, imports, reading, writing (all the rest)'] = usage.cpu - cpu, usage.wall - wall
    for name, (used, passed) in seconds.items():
        value = f'{used:.2f} s CPU, {passed:.2f} s wall'
        yield f'{size} patterns: {name}', value, f'{used / usage.cpu:.3f}', 'CPU of the process'


def import_time_rows(work: Path, model: Path, scan: Path, plain: Usage) -> Iterator[Cells]:
    """How long a reconstruction spends in import statements, by `-X importtime` (wall time) in one more run."""
    usage, _ = reconstruct(work, model, scan, '-X', 'importtime')
    found: dict[str, float] = {}
    outermost = 0.0
    for line in usage.errors.splitlines():
        if line.startswith('import time:') and line.count('|') == 2 and 'cumulative' not in line:
            _, cumulative, name = line.removeprefix('import time:').split('|')
            found[name.strip()] = int(cumulative) * 1e-6
            outermost += found[name.strip()] if not name.startswith('  ') else 0.0
    share = f'{outermost / plain.wall:.2f}'
    yield f'{scan.stem}: all import statements', f'{outermost:.2f} s wall', share, 'wall time of the process'
    for name in ('torch', 'lightning.pytorch', 'matplotlib.figure', 'skimage.metrics', 'scipy.sparse.linalg'):
        if name in found:
            value = f'{found[name]:.2f} s wall'
            yield f'- {name}, with what it imports first', value, f'{found[name] / outermost:.2f}', 'all imports'


def growth_rows(sizes: tuple[int, int], small: Usage, large: Usage) -> Iterator[Cells]:
    """How memory grows with the number of patterns."""
    more = sizes[1] - sizes[0]
    figures = {'peak': (large.peak - small.peak) * 2**10 / more}
    if small.anonymous is not None and large.anonymous is not None:
        figures['anonymous'] = (large.anonymous - small.anonymous) * 2**10 / more
    for name, kib in figures.items():
        what = f'memory a further pattern takes, {name}'
        yield what, f'{kib:.1f} KiB', f'{kib / PATTERN_KIB:.2f}', f'a pattern in the file, {PATTERN_KIB} KiB'
