"""`make bench`: speed and memory, one thread, every measurement in a new process; writes benchmarks/RESULTS.md.

What is measured inside Ptychodus runs in the environment of `make test-ptychodus`.

Nothing is asserted: times are those of one machine at one moment. The ratios stand beside them because they compare:
each reference (a matrix product, an FFT2, the whole of which a part is) is measured in the same run.

    python benchmarks/bench.py [--quick] [--only PATTERN] [--out FILE]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from processes import Cells, command_line_rows, import_rows, many_scans_rows, spawn

HERE = Path(__file__).resolve().parent
HOST_PYTHON = HERE.parent / '.venv-ptychodus' / 'bin' / 'python'
PACKAGES = ('ptychopinn-reconstructor', 'torch', 'lightning', 'tensorflow', 'keras', 'onnxruntime', 'numpy', 'scipy')
Section = Callable[[Path, bool], Iterable[Cells]]


def kernels(*measurements: tuple[str, int], script: str = 'kernels.py') -> Section:
    """Measurements of kernels.py, or of another script, each in a process of its own."""

    def rows(work: Path, quick: bool) -> Iterator[Cells]:
        for name, n in measurements:
            say(f'  {name}, N = {n} ...')
            done = spawn(work, HERE / script, name, n, *(['--quick'] if quick else []))
            for row in json.loads(done.output.splitlines()[-1]):
                yield row['what'], row['value'], row['ratio'], row['to']

    return rows


def command_line(work: Path, quick: bool) -> Iterator[Cells]:
    """The command line from end to end."""
    return command_line_rows(work, (256, 512) if quick else (1024, 8192))


def many_scans(work: Path, quick: bool) -> Iterator[Cells]:
    """Several scans in one process."""
    return many_scans_rows(work, (1, 3) if quick else (2, 8), 256 if quick else 1024)


def inside_ptychodus(backend: str, *parts: str) -> Section:
    """Parts of host_figures.py, each in a process of its own, in the environment of Ptychodus."""

    def rows(work: Path, quick: bool) -> Iterator[Cells]:
        for part in parts:
            say(f'  {part}, {backend} ...')
            done = spawn(work, '-P', HERE / 'host_figures.py', part, backend, python=HOST_PYTHON)
            for what, measured in json.loads(done.output.splitlines()[-1]):
                yield what, measured, '', ''

    return rows


SECTIONS: dict[str, Section] = {
    'Machine': kernels(('machine', 64)),
    'From a file to the object, beside its floor': kernels(('floor', 64), ('floor', 128), script='whole.py'),
    'Two threads beside one': kernels(('threads', 64), ('threads', 128), script='whole.py'),
    'How cost grows': kernels(('growth', 32), script='whole.py'),
    'Imports': lambda work, quick: import_rows(),
    'Network, inference': kernels(('inference', 64), ('inference', 128)),
    'Training step, as Lightning and Keras run it': kernels(('training', 64), ('training', 128)),
    'Compilers, torch.compile and XLA (not in the product)': kernels(('compiled', 64)),
    'Input': kernels(('input', 64), ('input', 128)),
    'Stitching': kernels(('stitching', 64), ('stitching', 128)),
    'Refinement engine': kernels(('engine', 64), ('engine', 128)),
    'Wavefront from slopes': kernels(('wavefront', 64), ('wavefront', 128)),
    'Command line, N = 64': command_line,
    'Several scans in one process, N = 64': many_scans,
    'Inside Ptychodus, PyTorch (wall time where it says nothing else)': inside_ptychodus(
        'torch', 'start', 'infer', 'memory', 'ends'
    ),
    'Inside Ptychodus, TensorFlow': inside_ptychodus('tensorflow', 'infer', 'ends'),
}


def cpu_model() -> str:
    """The processor as the system names it."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> str:
    """Versions of what was measured."""
    found = (f'{package} {version_of(package)}' for package in PACKAGES)
    return ', '.join([f'Python {platform.python_version()}', *found])


def version_of(package: str) -> str:
    """The version of a package, or of its build for CPUs alone, which has a name of its own."""
    for name in (package, f'{package}-cpu'):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return 'not installed'


def report(tables: dict[str, list[Cells]], load: float, seconds: float) -> str:
    """RESULTS.md."""
    busy = f'Load average before the start: {load:.1f}' + (' (**other jobs were running**).' if load > 0.5 else '.')
    lines = [
        '# Speed and memory',
        '',
        f'Written by `make bench` on {time.strftime("%Y-%m-%d")} in {seconds:.0f} s.',
        f'Machine: {cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}; one thread used.',
        f'{versions()}.',
        busy,
        '',
        'Times are medians of CPU time unless they say wall; each measurement ran in a new process, its reference in',
        'turn with it. A share of a step is taken in units of the matrix product. Memory is as the operating system',
        'tells it: the largest resident size, of which anonymous memory is what no file backs.',
    ]
    for title, rows in tables.items():
        lines += ['', f'## {title}', '', '| what | value | ratio | to what |', '|---|--:|--:|---|']
        lines += [f'| {" | ".join(row)} |' for row in rows]
    return '\n'.join(lines) + '\n'


def say(text: str) -> None:
    """A line on the terminal."""
    sys.stderr.write(text + '\n')


def main() -> int:
    """Measure and write the report; 1 when a measurement failed, which is told here and in its place in the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='small sizes and few repeats: for trying it out')
    parser.add_argument('--only', default='*', help='names of sections, as a shell pattern')
    parser.add_argument('--out', type=Path, default=HERE / 'RESULTS.md')
    options = parser.parse_args()
    start, load, failed = time.perf_counter(), os.getloadavg()[0], 0
    tables: dict[str, list[Cells]] = {}
    with tempfile.TemporaryDirectory(prefix='ptychopinn-bench-') as folder:
        for title in fnmatch.filter(SECTIONS, options.only):
            say(f'{time.perf_counter() - start:4.0f} s: {title}')
            try:
                tables[title] = list(SECTIONS[title](Path(folder), options.quick))
            except subprocess.CalledProcessError as error:
                say(f'{title} failed: {error}\n{error.stderr[-2000:]}')
                tables[title], failed = [('not measured: it failed', '', '', '')], 1
    options.out.write_text(report(tables, load, time.perf_counter() - start))
    say(f'wrote {options.out}')
    return failed


if __name__ == '__main__':
    sys.exit(main())
