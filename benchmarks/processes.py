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

from ptychopinn_reconstructor.backend import find_missing_modules

THREADS = {name: '1' for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')}
CLI = ('-P', '-m', 'ptychopinn_reconstructor')
POLL_SECONDS = 0.01
BARE = {'torch': 'import torch, lightning.pytorch', 'tensorflow': 'import tensorflow, keras'}
FRAMEWORK_REPEATS = 3  # of importing a framework, which takes seconds
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
    """One thread, no GPU, no screen, temporary files in `work`, and no compiled kernels from an earlier run."""
    own = {'CUDA_VISIBLE_DEVICES': '', 'QT_QPA_PLATFORM': 'offscreen', 'TMPDIR': str(work)}
    return os.environ | THREADS | own | {'TORCHINDUCTOR_CACHE_DIR': str(work / 'inductor')}


def spawn(work: Path, *arguments: Any, python: str | Path = sys.executable) -> Usage:
    """Run a Python, this one by default, with `arguments` and watch it; a failure raises CalledProcessError."""
    command = [str(python), *map(str, arguments)]
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
    known = (base, f'{base}; import ptychopinn_reconstructor')
    frameworks = {'import torch': 'torch', 'import lightning.pytorch': 'torch', BARE['tensorflow']: 'tensorflow'}
    there = [statement for statement, backend in frameworks.items() if not find_missing_modules(backend)]
    times: dict[str, list[float]] = {statement: [] for statement in (*known, *there)}
    for repeat in range(REPEATS):
        for statement in known if repeat >= FRAMEWORK_REPEATS else times:
            times[statement].append(cpu_seconds(statement))
    middle = {statement: sorted(values)[len(values) // 2] for statement, values in times.items()}
    above = middle[known[1]] - middle[base]
    yield f'`{base}`', f'{middle[base]:.3f} s', '', ''
    yield 'import ptychopinn_reconstructor, above that', f'{above:.3f} s', f'{above / middle[base]:.2f}', f'`{base}`'
    for statement in frameworks:
        if statement in middle:
            yield f'`{statement}`', f'{middle[statement]:.2f} s', f'{middle[statement] / middle[base]:.1f}', f'`{base}`'
        else:
            yield f'`{statement}`', 'not installed', '', ''


@dataclass(frozen=True)
class Runs:
    """The processes of one backend: its bare import, a training of the smallest scan, a reconstruction of each."""

    backend: str
    bare: Usage
    trained: Usage
    reconstructed: dict[int, tuple[Usage, dict[str, dict[str, float]]]]  # with the stages that it tells itself

    def whole(self) -> dict[str, Usage]:
        """All but the import, by what they do."""
        trained = {f'train, 2 epochs of {min(self.reconstructed)} patterns': self.trained}
        return trained | {f'reconstruct, {size} patterns': usage for size, (usage, _) in self.reconstructed.items()}


def command_line_rows(work: Path, sizes: tuple[int, int]) -> Iterator[Cells]:
    """Train two epochs on the smaller scan, then reconstruct both: by PyTorch in detail, by TensorFlow beside it."""
    scans = {size: work / f'scan_{size}.npz' for size in sizes}
    for size, scan in scans.items():
        spawn(work, *CLI, 'simulate', '--out', scan, '--positions', size, '--quiet')
    runs = backend_runs(work, 'torch', scans)
    yield from whole_rows(runs)
    for size, (usage, stages) in runs.reconstructed.items():
        yield from stage_rows(size, usage, stages)
    small, large = (runs.reconstructed[size][0] for size in sizes)
    yield from import_time_rows(work, scans[sizes[0]], small)
    yield from growth_rows(sizes, small, large)
    if find_missing_modules('tensorflow'):
        yield 'TensorFlow', 'not installed', '', ''
    else:
        yield from whole_rows(backend_runs(work, 'tensorflow', scans), beside=runs)


def backend_runs(work: Path, backend: str, scans: dict[int, Path]) -> Runs:
    """Run the command line with one backend."""
    small = scans[min(scans)]
    options = ('--backend', backend, '--epochs', 2, '--quiet')
    trained = spawn(work, *CLI, 'train', small, '--output-dir', work / backend, *options)
    bare = spawn(work, '-P', '-c', BARE[backend])
    return Runs(backend, bare, trained, {size: reconstruct(work, backend, scan) for size, scan in scans.items()})


def reconstruct(work: Path, backend: str, scan: Path, *flags: str) -> tuple[Usage, dict[str, dict[str, float]]]:
    """Reconstruct without refinement, with the backend that has trained; usage and the stages it tells itself."""
    options = (
        '--model',
        work / backend / 'model.safetensors',
        '--output-dir',
        work / f'out_{scan.stem}',
        '--json',
        '--quiet',
    )
    usage = spawn(work, *flags, *CLI, 'reconstruct', scan, *options)
    return usage, json.loads(usage.output)['stages']


def many_scans_rows(work: Path, sizes: tuple[int, int], patterns: int) -> Iterator[Cells]:
    """Scans of so many patterns in one process, a few and many: what a further one costs beyond its reconstruction."""
    model, folder = work / 'many' / 'model.safetensors', work / 'scans'
    folder.mkdir(exist_ok=True)
    scans = [folder / f'scan_{number}.npz' for number in range(max(sizes))]
    for number, scan in enumerate(scans):
        spawn(work, *CLI, 'simulate', '--out', scan, '--positions', patterns, '--seed', number, '--quiet')
    spawn(work, *CLI, 'train', scans[0], '--output-dir', model.parent, '--epochs', 1, '--quiet')
    spent, own = [], []
    for size in sizes:
        out = work / f'many_{size}'
        options = ('--model', model, '--output-dir', out, '--pictures', 'none', '--passes', 5, '--quiet')
        spent.append(spawn(work, *CLI, 'reconstruct', *scans[:size], *options).cpu)
        reports = [json.loads(found.read_text()) for found in sorted(out.glob('**/metrics.json'))]
        stages = [report['stages'].values() for report in reports if 'stages' in report]  # one tells of all scans
        own += [sum(stage['cpu_seconds'] for stage in each) for each in stages]
    each, reconstruction = (spent[1] - spent[0]) / (sizes[1] - sizes[0]), sum(own) / len(own)
    value, share = f'{each - reconstruction:.2f} s CPU', f'{(each - reconstruction) / each:.2f}'
    yield f'a further scan of {patterns} patterns in one process', f'{each:.2f} s CPU', '', ''
    yield '- beyond its reconstruction: reading, checks, results', value, share, 'all of it'
    yield f'start, imports and the model, {sizes[0]} scans', f'{spent[0] - sizes[0] * each:.2f} s CPU', '', ''


def memory(usage: Usage) -> str:
    """Peak of resident memory, and the anonymous part's own."""
    anonymous = '' if usage.anonymous is None else f', anonymous {usage.anonymous:.0f} MiB'
    return f'{usage.peak:.0f} MiB{anonymous}'


def whole_rows(runs: Runs, beside: Runs | None = None) -> Iterator[Cells]:
    """Time and memory of all processes; the CPU time relative to that of `beside`, or without it to wall time."""
    name = '' if beside is None else 'TensorFlow: '
    yield f'{name}memory of `{BARE[runs.backend]}`', memory(runs.bare), '', ''
    for what, usage in runs.whole().items():
        seconds, unit = (usage.wall, 'wall time') if beside is None else (beside.whole()[what].cpu, 'PyTorch')
        yield f'{name}{what}: CPU', f'{usage.cpu:.2f} s', f'{usage.cpu / seconds:.2f}', f'{unit}, {seconds:.2f} s'
        yield f'{name}{what}: peak memory', memory(usage), f'{usage.peak / runs.bare.peak:.2f}', 'bare import'


def stage_rows(size: int, usage: Usage, stages: dict[str, dict[str, float]]) -> Iterator[Cells]:
    """CPU and wall time of the stages, and of all that is in none: imports, reading, writing, pictures."""
    seconds = {name: (stage['cpu_seconds'], stage['wall_seconds']) for name, stage in stages.items()}
    cpu, wall = (sum(column) for column in zip(*seconds.values(), strict=True))
    seconds['start, imports, reading, writing (all the rest)'] = usage.cpu - cpu, usage.wall - wall
    for name, (used, passed) in seconds.items():
        value = f'{used:.2f} s CPU, {passed:.2f} s wall'
        yield f'{size} patterns: {name}', value, f'{used / usage.cpu:.3f}', 'CPU of the process'


def import_time_rows(work: Path, scan: Path, plain: Usage) -> Iterator[Cells]:
    """How long a reconstruction spends in import statements, by `-X importtime` (wall time) in one more run."""
    usage, _ = reconstruct(work, 'torch', scan, '-X', 'importtime')
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
