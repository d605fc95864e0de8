"""How many small changes of the sources the tests see: PYTHONPATH=tests python -m mutation.campaign --help.

1. `--map` runs the tests of TESTS once and notes which of them run which line, and what CPU time each takes.
2. `--seed 1 --count 130` draws mutants of each package and runs, for each, the fastest tests that reach its line, in a
   child of a process that has imported the libraries, but nothing of ours. Results are lines of JSON in OUT, and what
   is there is not done again. A test that fails, an import that fails and a CPU time beyond all measure kill a mutant.
3. `--report` prints scores. EQUIVALENT lists changes that alter nothing that can be seen, each with its reason; they
   are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from .importing import import_mutant
from .mutants import Mutant, list_mutants
from .reach import BUDGET, OUT, ROOT, Reach, make_environment, map_tests

PACKAGE = ROOT / 'ptychopinn_reconstructor'
EQUIVALENT = Path(__file__).with_name('equivalent.txt')
PACKAGES = ('io', 'model_file', 'worker')
TESTS = [f'tests/{name}' for name in PACKAGES]
# Imported once, before the children are forked.
LIBRARIES = (
    'h5py', 'hdf5plugin', 'hypothesis', 'matplotlib.figure', 'numpy', 'pydantic', 'rich', 'safetensors.numpy',
    'scipy.fft', 'scipy.ndimage', 'scipy.optimize', 'scipy.sparse.linalg', 'scipy.spatial', 'tifffile', 'torch', 'yaml',
)  # fmt: skip
# Seconds by the clock that a child may take, and in which it may do nothing: what waits for ever is killed too. Waiting
# takes a few ticks of the system's clock.
PATIENCE, IDLE, TICKS = 1200, 40, 20
TOO_LONG = (-signal.SIGXCPU, -signal.SIGKILL)
SEEN = ('killed', 'too long')
COLUMNS = (
    'package', 'mutants', 'killed', 'of these too long', 'survived', 'not reached', 'equivalent of these', 'score',
    'without equivalent ones',
)  # fmt: skip
Entry = dict[str, Any]


class Selection:
    """A plugin of pytest: these tests only, the first first."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what is selected."""
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda item: self.order[item.nodeid])


def draw_mutants(seed: int, count: int, packages: list[str]) -> list[tuple[Path, Mutant]]:
    """`count` mutants of each package, drawn from a seed."""
    drawn = []
    for package in packages:
        files = sorted((PACKAGE / package).glob('*.py'))
        every = [(file, mutant) for file in files for mutant in list_mutants(file)]
        random.Random(f'{seed} {package}').shuffle(every)  # so that a larger count begins with the same ones
        drawn += every[:count]
    return drawn


def run_mutant(file: Path, mutant: Mutant, tests: list[str]) -> str:
    """What becomes of a mutant: 'killed', 'too long', 'survived', or 'not reached' by any test."""
    if not tests:
        return 'not reached'
    child = os.fork()
    if not child:
        status = 3
        try:
            status = _run_tests(file, mutant, tests)
        finally:
            os._exit(status)
    status = _await(child)
    if status == 0:
        return 'survived'
    if status in (4, 5):
        raise SystemExit(f'pytest ended with {status} for {mutant.key}: map the tests anew')
    return 'too long' if status in TOO_LONG else 'killed'


def _await(child: int) -> int:
    """The exit status of a child, which is ended with all that it has started when that does next to nothing."""
    begin = looked = seen = time.monotonic()
    used = 0
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        now = time.monotonic()
        if now - looked > 2:
            looked, ticks = now, _measure_ticks(child)
            if ticks > used + TICKS:
                seen, used = now, ticks
        if now - seen > IDLE or now - begin > PATIENCE:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)
    with suppress(ProcessLookupError):  # what it has left behind
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(ended[1])


def _measure_ticks(session: int) -> int:
    """What the processes of a session have used of the processor, in ticks of the system's clock."""
    total = 0
    for file in Path('/proc').glob('[0-9]*/stat'):
        with suppress(OSError):  # it has ended
            fields = file.read_text().rpartition(')')[2].split()
            total += (int(fields[11]) + int(fields[12])) * (int(fields[3]) == session)
    return total


def _run_tests(file: Path, mutant: Mutant, tests: list[str]) -> int:
    os.setsid()
    log = os.open(OUT / 'last.log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    limit = int(3 * BUDGET) + 30
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    parts = (PACKAGE.name, *file.relative_to(PACKAGE).with_suffix('').parts)
    named = f'{".".join(parts).removesuffix(".__init__")} {file} {mutant.number}'
    os.environ.update(make_environment(PTYCHOPINN_MUTANT=named))
    import_mutant(named)
    options = ['-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', *sorted({test.split('::')[0] for test in tests})]
    return int(pytest.main(options, [Selection(tests)]))


def run(seed: int, count: int, packages: list[str], only: str) -> None:
    """Run the mutants of a seed that are not done."""
    for name in LIBRARIES:
        import_module(name)
    assert not any(name.startswith(f'{PACKAGE.name}.') for name in sys.modules)
    os.chdir(ROOT)
    reach, results = Reach(), _results(seed)
    done = {entry['key'] for entry in _read(results)}
    for file, mutant in draw_mutants(seed, count, packages):
        if mutant.key in done or only not in mutant.key:
            continue
        tests = reach.find_tests(file, mutant)
        outcome = run_mutant(file, mutant, tests)
        entry = {'key': mutant.key, 'kind': mutant.kind, 'line': mutant.line, 'outcome': outcome, 'tests': len(tests)}
        with results.open('a') as stream:
            stream.write(json.dumps(entry) + '\n')


def _results(seed: int) -> Path:
    return OUT / f'seed-{seed}.jsonl'


def _read(file: Path) -> list[Entry]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def read_equivalent() -> dict[str, str]:
    """The reasons of mutants that do the same as the source, by their keys."""
    lines = [line.rpartition(' # ') for line in EQUIVALENT.read_text().splitlines() if ' # ' in line]
    return {key.strip(): reason for key, _, reason in lines}


def report(seed: int) -> str:
    """Scores by package as a table, and what survived."""
    equivalent, entries = read_equivalent(), _read(_results(seed))
    rows = [COLUMNS, ('---',) * len(COLUMNS)]
    for package in (*PACKAGES, ''):
        if mine := [entry for entry in entries if entry['key'].startswith(f'{package}/' if package else '')]:
            rows.append(_score(package or 'all', mine, equivalent))
    left = [e for e in entries if e['outcome'] not in SEEN and e['key'] not in equivalent]
    table = [f'| {" | ".join(row)} |' for row in rows]
    return '\n'.join([*table, '', *(f'{entry["outcome"]}, line {entry["line"]}: {entry["key"]}' for entry in left)])


def _score(package: str, entries: list[Entry], equivalent: dict[str, str]) -> tuple[str, ...]:
    count = Counter(entry['outcome'] for entry in entries)
    killed = sum(count[outcome] for outcome in SEEN)
    equal = sum(entry['key'] in equivalent and entry['outcome'] not in SEEN for entry in entries)
    numbers = (len(entries), killed, count['too long'], count['survived'], count['not reached'], equal)
    return (package, *map(str, numbers), f'{killed / len(entries):.1%}', f'{killed / (len(entries) - equal):.1%}')


def main() -> None:
    """Do what is asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--map', action='store_true', help='run the tests once, to know which reaches which line')
    parser.add_argument('--seed', type=int, help='draw mutants and try them')
    parser.add_argument('--count', type=int, default=130, help='how many of each package')
    parser.add_argument('--packages', nargs='+', default=list(PACKAGES))
    parser.add_argument('--only', default='', help='mutants with this text in their keys')
    parser.add_argument('--report', action='store_true', help='print the scores of a seed')
    parser.add_argument('--tests', nargs='+', default=TESTS, help='what --map runs')
    arguments = parser.parse_args()
    if arguments.map:
        map_tests(arguments.tests)
    if arguments.seed is not None:
        run(arguments.seed, arguments.count, arguments.packages, arguments.only)
        if arguments.report:
            sys.stdout.write(report(arguments.seed) + '\n')


if __name__ == '__main__':
    main()
