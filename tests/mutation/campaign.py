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
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from .importing import import_mutant
from .mutants import Mutant, list_mutants
from .reach import BUDGET, OUT, ROOT, Reach, make_environment, map_tests
from .swapping import Server, run_items, swap_code

PACKAGE = ROOT / 'ptychopinn_reconstructor'
EQUIVALENT = Path(__file__).with_name('equivalent.txt')
PACKAGES = ('io', 'model_file', 'worker')
TESTS = [f'tests/{name}' for name in PACKAGES]
# Imported once, before the children are forked.
LIBRARIES = (
    'h5py', 'hdf5plugin', 'hypothesis', 'matplotlib.figure', 'numpy', 'pydantic', 'rich', 'safetensors.numpy',
    'scipy.fft', 'scipy.ndimage', 'scipy.optimize', 'scipy.sparse.linalg', 'scipy.spatial', 'tifffile', 'torch', 'yaml',
)  # fmt: skip
# Seconds between two looks at a child; looks at one that does nothing, and at any, after which it is ended: what waits
# for ever is killed too. Waiting takes a few ticks of the system's clock.
LOOK, IDLE, PATIENCE, TICKS = 2.0, 20, 600, 20
CANNOT = 77  # the exit status of a child whose mutant cannot take the place of what is imported
OPTIONS = ('-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-m', 'not slow')
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


def list_all(package: str) -> list[tuple[Path, Mutant]]:
    """All mutants of a package."""
    return [(file, mutant) for file in sorted((PACKAGE / package).glob('*.py')) for mutant in list_mutants(file)]


def draw_mutants(seed: int, count: int, packages: list[str]) -> list[tuple[Path, Mutant]]:
    """`count` mutants of each package, drawn from a seed."""
    drawn = []
    for package in packages:
        every = list_all(package)
        random.Random(f'{seed} {package}').shuffle(every)  # so that a larger count begins with the same ones
        drawn += every[:count]
    return drawn


def take_survivors(results: Path) -> list[tuple[Path, Mutant]]:
    """The mutants of a file of results that have survived, and are no longer in it afterwards."""
    entries = _read(results)
    kept = [entry for entry in entries if entry['outcome'] in SEEN]
    left = {entry['key'] for entry in entries} - {entry['key'] for entry in kept}
    results.write_text(''.join(json.dumps(entry) + '\n' for entry in kept))
    return [item for package in PACKAGES for item in list_all(package) if item[1].key in left]


def run_mutant(mutant: Mutant, tests: list[str], test: Callable[[], int]) -> str | None:
    """What becomes of a mutant: 'killed', 'too long', 'survived', or 'not reached'; None: it cannot be tried so.

    `test` is run in a child, and returns what pytest does, or CANNOT.
    """
    if not tests:
        return 'not reached'
    child = os.fork()
    if not child:
        status = 3
        try:
            _prepare_child()
            status = test()
        finally:
            os._exit(status)
    status = _await(child)
    if status in (0, CANNOT):
        return 'survived' if status == 0 else None
    if status in (4, 5):
        raise SystemExit(f'pytest ended with {status} for {mutant.key}: map the tests anew')
    return 'too long' if status in TOO_LONG else 'killed'


def _await(child: int) -> int:
    """The exit status of a child, which is ended with all that it has started when that does next to nothing."""
    looked, used, looks, idle = time.monotonic(), 0, 0, 0
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - looked > LOOK:  # not seconds are counted: the machine may be held for a while
            looked, ticks = time.monotonic(), _measure_ticks(child)
            idle = 0 if ticks > used + TICKS else idle + 1
            used, looks = ticks if not idle else used, looks + 1
        if idle > IDLE or looks > PATIENCE:
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


def _prepare_child() -> None:
    os.setsid()
    log = os.open(OUT / 'last.log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    limit = int(3 * BUDGET) + 30
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))


def _name_mutant(file: Path, mutant: Mutant) -> str:
    """A mutant as the environment of this process, and of its children, names it."""
    parts = (PACKAGE.name, *file.relative_to(PACKAGE).with_suffix('').parts)
    named = f'{".".join(parts).removesuffix(".__init__")} {file} {mutant.number}'
    os.environ.update(make_environment(PTYCHOPINN_MUTANT=named))
    return named


def _test_imported(session: pytest.Session, file: Path, mutant: Mutant, tests: list[str]) -> int:
    named = _name_mutant(file, mutant)
    if named.split(' ')[0] not in sys.modules:  # one that is imported when it is used: then as the mutant
        import_mutant(named)
    elif not swap_code(file, mutant):
        return CANNOT
    return run_items(session, tests)


def _test_importing(file: Path, mutant: Mutant, tests: list[str]) -> int:
    import_mutant(_name_mutant(file, mutant))
    return int(pytest.main([*OPTIONS, *sorted({test.split('::')[0] for test in tests})], [Selection(tests)]))


class Campaign:
    """Mutants that are not done, first those in functions, then those that are seen at import."""

    def __init__(self, file: Path, drawn: list[tuple[Path, Mutant]], only: str) -> None:
        self.file = file
        reach = Reach()  # asked before anything is forked: the data of coverage do not outlive that
        self.files = sorted({test.split('::')[0] for test in reach.seconds})
        done = {entry['key'] for entry in _read(file)}
        wanted = [(f, mutant) for f, mutant in drawn if mutant.key not in done and only in mutant.key]
        self.drawn = [(f, mutant, reach.find_tests(f, mutant)) for f, mutant in wanted]

    def run(self) -> None:
        """Run them."""
        for name in LIBRARIES:
            import_module(name)
        os.chdir(ROOT)
        if not (server := os.fork()):
            os._exit(int(pytest.main([*OPTIONS, *self.files], [Server(self.serve)])))
        os.waitpid(server, 0)
        done = {entry['key'] for entry in _read(self.file)}
        for file, mutant, tests in self.drawn:
            if mutant.key not in done:
                self.keep(mutant, tests, run_mutant(mutant, tests, partial(_test_importing, file, mutant, tests)))

    def serve(self, session: pytest.Session) -> None:
        """Run those in functions, in children of a process that has collected the tests."""
        for file, mutant, tests in self.drawn:
            if not mutant.at_import:
                test = partial(_test_imported, session, file, mutant, tests)
                self.keep(mutant, tests, run_mutant(mutant, tests, test))

    def keep(self, mutant: Mutant, tests: list[str], outcome: str | None) -> None:
        """Write what has become of a mutant."""
        if outcome is not None:
            told = {'key': mutant.key, 'kind': mutant.kind, 'line': mutant.line, 'outcome': outcome}
            with self.file.open('a') as stream:
                stream.write(json.dumps(told | {'tests': len(tests)}) + '\n')


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
    parser.add_argument('--more', action='store_true', help='--map adds to what it has found before')
    parser.add_argument('--seed', type=int, help='draw mutants and try them')
    parser.add_argument('--count', type=int, default=130, help='how many of each package')
    parser.add_argument('--packages', nargs='+', default=list(PACKAGES))
    parser.add_argument('--again', action='store_true', help='try what has survived anew, and draw nothing')
    parser.add_argument('--only', default='', help='mutants with this text in their keys')
    parser.add_argument('--report', action='store_true', help='print the scores of a seed')
    parser.add_argument('--tests', nargs='+', default=TESTS, help='what --map runs')
    arguments = parser.parse_args()
    if arguments.map:
        map_tests(arguments.tests, more=arguments.more)
    if arguments.seed is not None:
        file = _results(arguments.seed)
        drawn = draw_mutants(arguments.seed, arguments.count, arguments.packages)
        Campaign(file, take_survivors(file) if arguments.again else drawn, arguments.only).run()
        if arguments.report:
            sys.stdout.write(report(arguments.seed) + '\n')


if __name__ == '__main__':
    main()
