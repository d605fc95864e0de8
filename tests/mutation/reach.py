"""Which tests run which line of the package, and what CPU time each of them takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .mutants import Mutant

ROOT = Path(__file__).parents[2]
OUT = ROOT / '.mutation'
DATA, SECONDS = OUT / 'coverage', OUT / 'seconds.json'
BUDGET = 15.0  # CPU seconds of tests for a mutant, as they take without it
PROGRAM = 'import sys, pytest; from mutation.reach import Mapping; sys.exit(pytest.main(sys.argv[1:], [Mapping()]))\n'


class Mapping:
    """A plugin of pytest: which test runs which line, children included, and its CPU seconds."""

    def __init__(self) -> None:
        import coverage

        self.coverage = coverage.Coverage.current()
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Name the test to coverage here, and through the environment to that of its children."""
        begin = os.times()
        if self.coverage is not None:
            self.coverage.switch_context(item.nodeid)
            self.coverage.config.context = item.nodeid
            os.environ['COVERAGE_PROCESS_CONFIG'] = self.coverage.config.serialize()
        answer = yield
        self.seconds[item.nodeid] = sum(os.times()[:4]) - sum(begin[:4])
        return answer

    def pytest_sessionfinish(self) -> None:
        """Leave the seconds, beside those of tests that were run before."""
        SECONDS.write_text(json.dumps(read_seconds() | self.seconds))


def read_seconds() -> dict[str, float]:
    """The CPU seconds of the tests that were run."""
    found: dict[str, float] = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
    return found


def map_tests(tests: list[str], *, more: bool = False) -> None:
    """Run tests under coverage, and leave what each of them runs and takes in OUT, with `more` beside what is there."""
    import coverage

    OUT.mkdir(exist_ok=True)
    for old in () if more else (*OUT.glob('coverage*'), SECONDS):
        old.unlink(missing_ok=True)
    script, settings = OUT / 'map.py', ROOT / 'pyproject.toml'
    script.write_text(PROGRAM)
    measure = ['-m', 'coverage', 'run', f'--rcfile={settings}', f'--data-file={DATA}', str(script)]
    options = ['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-m', 'not slow', *tests]
    subprocess.run([sys.executable, *measure, *options], cwd=ROOT, env=make_environment(), check=False)
    combined = coverage.Coverage(data_file=str(DATA), config_file=str(settings))
    if more:
        combined.load()
    combined.combine()
    combined.save()


def make_environment(**more: str) -> dict[str, str]:
    """The environment of processes that find this package, and import what PTYCHOPINN_MUTANT names as a mutant."""
    places = f'{ROOT}/tests:{Path(__file__).parent}/mutated'
    return {**os.environ, 'PYTHONPATH': places, 'OMP_NUM_THREADS': '1', **more}


class Reach:
    """Which tests reach a line of a file, the fastest first."""

    def __init__(self) -> None:
        from coverage import CoverageData

        self.data = CoverageData(str(DATA))
        self.data.read()
        self.by_file: dict[Path, dict[int, list[str]]] = {}
        self.seconds = read_seconds()

    def find_tests(self, file: Path, mutant: Mutant) -> list[str]:
        """The tests of a mutant, as many as the budget allows; for a line run at import, those of its package."""
        if file not in self.by_file:
            self.by_file[file] = self.data.contexts_by_lineno(str(file))
        by_line = self.by_file[file]
        if mutant.at_import:
            found = {test for test in self.seconds if test.startswith(f'tests/{file.parent.name}/')}
        else:
            found = next((set(tests) for line in mutant.lines if any(tests := by_line.get(line, []))), set())
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found & self.seconds.keys(), key=self.seconds.__getitem__):
            total += self.seconds[test]
            if total < BUDGET or not chosen:
                chosen.append(test)
        return chosen
