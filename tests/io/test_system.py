"""What is asked of the operating system: who runs, what memory there is, what a process has cost."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ptychopinn_reconstructor.errors import InputError, ModelFileError, ScanError
from ptychopinn_reconstructor.io import memory, system

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX')


def test_who_runs_and_who_does_not() -> None:
    with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE) as child:
        assert system.is_running(child.pid) and system.is_running(os.getpid())
        child.kill()
    assert not system.is_running(child.pid)
    assert not system.is_running(2**70), 'no number of a process'


def test_a_process_of_another_user_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        assert number == 0, 'nothing is ended'
        raise PermissionError

    monkeypatch.setattr(os, 'kill', refuse)
    assert system.is_running(1)


def test_nobody_is_ended_to_learn_whether_he_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `os.kill` ends a process."""
    monkeypatch.setattr(os, 'name', 'nt')
    monkeypatch.setattr(os, 'kill', lambda *_: pytest.fail('it was ended'))
    answer = system.is_running(1)
    monkeypatch.undo()
    assert answer


def test_memory_of_records_is_in_mib() -> None:
    unit = 2**20 if sys.platform == 'darwin' else 2**10
    assert system.max_memory_mib(SimpleNamespace(ru_maxrss=3 * 2**20 / unit)) == 3.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    assert system.measure_peak_memory() == pytest.approx(peak, rel=0.1)


def test_a_limit_of_addresses_is_counted_less_what_is_taken() -> None:
    assert system.read_memory_limit() == math.inf
    program = (
        'import resource; resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35));'
        'from ptychopinn_reconstructor.io.system import read_memory_limit; print(read_memory_limit())'
    )
    said = subprocess.run([sys.executable, '-P', '-c', program], capture_output=True, text=True, check=True).stdout
    assert 2**35 - 2**33 < float(said) < 2**35 - 2**22, 'Python alone takes some MiB'


def test_the_cost_of_a_child_and_its_exit_code() -> None:
    program = 'import sys, time\nwhile time.process_time() < 0.3: pass\nsys.exit(3)'
    with subprocess.Popen([sys.executable, '-c', program]) as child:
        costs = []
        while (cost := system.collect_cost(child)) is None:
            costs.append(child.returncode)
    assert costs and set(costs) == {None}, 'it was asked after while it ran'
    assert child.returncode == 3 and cost[0] >= 0.3 and cost[1] > 3
    assert all(math.isnan(value) for value in system.collect_cost(child) or ())


def test_only_one_process_locks_a_file(tmp_path: Path) -> None:
    with (tmp_path / 'lock').open('w') as mine, (tmp_path / 'lock').open('w') as other:
        assert system.lock_file(mine) and not system.lock_file(other)
        mine.close()
        assert system.lock_file(other)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What a machine with 3 MiB reports, in files of a folder."""
    (tmp_path / 'info').write_text('MemTotal: 9 kB\nno pair\nMemAvailable:    3072 kB\n')
    monkeypatch.setattr(memory, 'MEMINFO', tmp_path / 'info')
    groups = tuple((tmp_path / f'{name}.max', tmp_path / f'{name}.now') for name in ('a', 'b'))
    monkeypatch.setattr(memory, 'CGROUPS', groups)
    return tmp_path


@pytest.mark.parametrize(
    ('files', 'available'),
    [
        ({}, 3 * 2**20),
        ({'b.max': '1000000', 'b.now': '400000'}, 600_000),
        ({'a.max': 'max', 'a.now': '400000'}, 3 * 2**20),
        ({'info': 'MemFree: 3072 kB'}, math.inf),
        ({'info': 'MemAvailable: many kB'}, math.inf),
    ],
)
def test_the_smallest_of_what_is_reported_is_available(machine: Path, files: dict[str, str], available: float) -> None:
    for name, text in files.items():
        (machine / name).write_text(text)
    assert memory.measure_available_memory() == available


def test_the_files_are_those_of_linux() -> None:
    if sys.platform == 'linux':
        assert 2**20 < memory._read_available() < os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


@pytest.mark.parametrize('kind', [ScanError, ModelFileError])
def test_what_does_not_fit_is_refused_with_both_numbers(machine: Path, kind: type[InputError]) -> None:
    (machine / 'info').write_text(f'MemAvailable: {3 * 2**20} kB')
    memory.require_memory(3 * 2**30, 'A scan', 'leave some out', kind)
    with pytest.raises(kind, match=r'^A scan needs 3\.5 GiB of memory but 3\.0 GiB are available; leave some out\.$'):
        memory.require_memory(3.5 * 2**30, 'A scan', 'leave some out', kind)
