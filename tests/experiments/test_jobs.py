"""Lists of jobs: the engines that run them, what a kill does, and that results are those of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run

from ptychopinn_reconstructor.errors import ConfigError, Interrupted
from ptychopinn_reconstructor.events import Event, Log
from ptychopinn_reconstructor.experiments.jobs import Engine, Task, open_engine, run_tasks
from ptychopinn_reconstructor.experiments.jobs.engines import LocalEngine, divide_machine
from ptychopinn_reconstructor.experiments.processes import KilledError, run_command
from ptychopinn_reconstructor.experiments.study import Study, list_runs, list_states, run_study
from ptychopinn_reconstructor.experiments.study.grid import bundle_runs
from ptychopinn_reconstructor.io import read_object
from ptychopinn_reconstructor.io.locks import NAME as LOCK
from ptychopinn_reconstructor.io.locks import FolderLock

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals and locks of POSIX')
STUDY = Study(n=32, area=40.0, model=('engine',), engine_passes=(2,), overlap=(70.0,), dose=(1e4, 1e5), seeds=1)


class Told:
    """A handle of a job that ends at once, with what it was given."""

    def __init__(self, outcome: str | Exception) -> None:
        self.outcome, self.cancelled = outcome, False

    def done(self) -> bool:
        return not isinstance(self.outcome, Interrupted)

    def result(self) -> str:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self) -> None:
        self.cancelled = True


class Scripted:
    """An engine that loses and ends jobs as it was told, by their names."""

    def __init__(self, **outcomes: list[str | Exception]) -> None:
        self.outcomes, self.handles = outcomes, list[Told]()

    def submit(self, tasks: Sequence[Task]) -> Sequence[Told]:
        found = [Told(self.outcomes[task.name].pop(0)) for task in tasks]
        self.handles += found
        return found


def tasks(*names: str) -> list[Task]:
    return [Task(name, (), Path()) for name in names]


def test_a_job_that_was_lost_is_done_again_but_not_for_ever() -> None:
    lost = RuntimeError('the worker\nhas gone')
    engine = Scripted(good=[''], bad=['It failed.'], lost=[lost, lost, ''], deadly=[lost, lost, lost])
    told: list[Event] = []
    ended = {task.name: error for task, error in run_tasks(tasks(*engine.outcomes), engine, emit=told.append)}
    assert ended['good'] == ended['lost'] == '' and ended['bad'] == 'It failed.'
    assert ended['deadly'] == 'deadly was lost 3 times, at last by: RuntimeError: has gone'
    assert len([event for event in told if isinstance(event, Log) and 'has gone' in event.message]) == 4
    assert all(left == [] for left in engine.outcomes.values())


def test_a_stop_cancels_what_has_not_ended() -> None:
    engine = Scripted(ended=[''], waiting=[Interrupted()])
    asked = threading.Event()
    found = run_tasks(tasks('ended', 'waiting'), engine, should_stop=asked.is_set)
    assert next(found)[0].name == 'ended'
    asked.set()
    with pytest.raises(Interrupted):
        next(found)
    assert [handle.cancelled for handle in engine.handles] == [False, True]


def test_processes_of_a_machine_share_its_gpus_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr('ptychopinn_reconstructor.experiments.jobs.engines.available_threads', lambda: 8)
    assert divide_machine(3, 0) == [{'OMP_NUM_THREADS': '2'}] * 3
    assert divide_machine(16, 0)[0] == {'OMP_NUM_THREADS': '1'}
    assert [one['CUDA_VISIBLE_DEVICES'] for one in divide_machine(3, 2)] == ['0', '1', '0']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    assert [one['CUDA_VISIBLE_DEVICES'] for one in divide_machine(2, 2)] == ['3', '5']


def test_a_worker_hears_of_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of our command, what it would be told: one of the two cores for each of two workers."""
    monkeypatch.setattr('ptychopinn_reconstructor.experiments.jobs.engines.available_threads', lambda: 2)
    tell = tmp_path / 'tell'
    tell.write_text('#!/bin/sh\necho $OMP_NUM_THREADS > $5.txt\n')
    tell.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(tell))
    with open_engine(2, None, None, tmp_path, lambda: 0) as engine:
        assert engine is not None
        ended = dict(run_tasks([Task(name, (name,), tmp_path) for name in ('one', 'other')], engine))
    assert set(ended.values()) == {''}
    assert [(tmp_path / f'{name}.txt').read_text() for name in ('one', 'other')] == ['1\n', '1\n']


def test_runs_of_one_training_stay_in_one_process() -> None:
    study = Study(model=('pinn', 'engine'), passes=(0, 1), dose=(1e3, 1e5), engine_passes=(5,), seeds=1)
    runs = list_runs(study)
    assert [[run.shared for run in bundle] for bundle in bundle_runs(runs, 1)] == [
        ['pinn-torch_1e3-photons_65-overlap_seed-0'] * 2,
        ['pinn-torch_1e5-photons_65-overlap_seed-0'] * 2,
        ['engine_1e3-photons_65-overlap_seed-0_passes-5'],
        ['engine_1e5-photons_65-overlap_seed-0_passes-5'],
    ]
    assert [len(bundle) for bundle in bundle_runs(runs, 3)] == [4, 2]
    assert [run for bundle in bundle_runs(runs, 3) for run in bundle] == [r for b in bundle_runs(runs, 1) for r in b]


def opened(folder: Path, workers: int = 1, slurm: str | None = None, dask: str | None = None) -> Engine | None:
    with open_engine(workers, slurm, dask, folder, lambda: 0) as engine:
        return engine


def test_one_engine_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(tmp_path) is None and isinstance(opened(tmp_path, 2), LocalEngine)
    with pytest.raises(ConfigError, match='Both --slurm and --workers'):
        opened(tmp_path, 2, 'time=1')
    monkeypatch.setattr('ptychopinn_reconstructor.experiments.jobs.engines.find_spec', lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'ptychopinn-reconstructor\[slurm\]'"):
        opened(tmp_path, slurm='time=1')
    with pytest.raises(ConfigError, match=r"pip install 'ptychopinn-reconstructor\[dask\]'"):
        opened(tmp_path, dask='tcp://127.0.0.1:1')


def test_slurm_takes_the_words_of_sbatch_and_of_submitit(tmp_path: Path) -> None:
    pytest.importorskip('submitit')
    from ptychopinn_reconstructor.experiments.jobs.slurm import parse_options

    assert parse_options('--partition=gpu time=60 cpus_per_task=4 --no-such=END array_parallelism=9') == {
        'slurm_partition': 'gpu',
        'slurm_time': 60,
        'cpus_per_task': 4,
        'slurm_array_parallelism': 9,
        'slurm_additional_parameters': {'no-such': 'END'},
    }
    with pytest.raises(ConfigError, match="holds 'gpu'; write KEY=VALUE"):
        parse_options('gpu')
    for options, reason in (('cluster=moon', 'moon'), ('cluster=local timeout_min=long', 'timeout_min')):
        with pytest.raises(ConfigError, match=rf'does not work here: .*{reason}'):
            opened(tmp_path, slurm=options)


def test_a_dask_cluster_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip('distributed')
    with pytest.raises(ConfigError, match="no scheduler answers at 'nonsense://here'"):
        opened(tmp_path, dask='nonsense://here')


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    """Another process holds the lock for a while; a lock of another name is free meanwhile."""
    hold = f'from ptychopinn_reconstructor.io.locks import FolderLock\nwith FolderLock({str(tmp_path)!r}, "x"): '
    command = [sys.executable, '-P', '-c', f'{hold}print(flush=True); input()']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None and other.stdout.readline()
        with FolderLock(tmp_path, 'y', name='other.lock'):
            pass
        with pytest.raises(Interrupted), FolderLock(tmp_path, 'y', should_stop=lambda: True):
            pass
        asked: list[int | None] = []

        def let_go() -> bool:
            asked.append(other.poll())
            if len(asked) == 2 and other.stdin is not None:
                other.stdin.write(b'\n')
                other.stdin.flush()
            return False

        with FolderLock(tmp_path, 'y', should_stop=let_go):
            assert len(asked) >= 2 and asked[0] is None


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    line = ('study', '--model', 'engine', '--seeds', '1', '--output-dir', str(tmp_path / 'o'))
    assert_refused(run(*line, '--run', 'nothing'), ("no run 'nothing'", '--list'))


# real processes, killed


def parent_of(pid: int) -> int:
    return int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])


def kill_first(folder: Path, choose: Callable[[int], int], killed: list[int]) -> None:
    """Kill the process that `choose` names of the one that holds the first lock of a run."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        for lock in folder.glob(f'runs/*/{LOCK}'):
            try:
                found = int(lock.read_text().split('"pid": ')[1].split(',')[0])
                os.kill(choose(found), signal.SIGKILL)
            except (OSError, IndexError):
                continue
            killed.append(found)
            return
        time.sleep(0.02)


@contextmanager
def dask_cluster() -> Iterator[str]:
    pytest.importorskip('distributed')
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope='module')
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study in this process."""
    folder = tmp_path_factory.mktemp('alone') / 'o'
    assert not run_study(STUDY, folder).failed
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='asks Linux for parents')
@pytest.mark.parametrize('kind', ['workers', 'slurm', 'dask'])
def test_a_killed_workers_job_is_done_by_another_with_the_results_of_one_process(
    kind: str, alone: Path, tmp_path: Path
) -> None:
    """Killed are: the command itself; submitit's process that runs it; the worker of the cluster that runs it."""
    if kind == 'slurm':
        pytest.importorskip('submitit')
    killed: list[int] = []
    choose = (lambda pid: pid) if kind == 'workers' else parent_of
    folder = tmp_path / 'o'
    with dask_cluster() if kind == 'dask' else nullcontext('') as address:
        options = {'workers': (2, None, None), 'slurm': (1, 'cluster=local', None), 'dask': (1, None, address)}[kind]
        killer = threading.Thread(target=kill_first, args=(folder, choose, killed), daemon=True)
        killer.start()
        with open_engine(*options, folder / 'logs', lambda: 0) as engine:
            outcome = run_study(STUDY, folder, engine=engine)
    assert len(killed) == 1 and not outcome.failed, outcome.failed
    assert set(list_states(STUDY, folder).values()) == {'done'}
    for one in list_runs(STUDY):
        ours, theirs = (read_object(place / 'runs' / one.name / 'product.h5') for place in (folder, alone))
        np.testing.assert_array_equal(ours.object, theirs.object)
        np.testing.assert_array_equal(ours.positions, theirs.positions)


def test_a_command_does_not_outlive_the_process_that_started_it(tmp_path: Path) -> None:
    """A process that runs a command is killed: what the command would write never comes."""
    out = tmp_path / 'scan.npz'
    program = f"""
from ptychopinn_reconstructor.experiments.processes import run_command
run_command(['simulate', '--out', {str(out)!r}, '--positions', '40000', '--n', '64'], 'x')
"""
    with subprocess.Popen([sys.executable, '-P', '-c', program]) as process:
        child = first_child(process.pid)
        process.kill()
    deadline = time.monotonic() + 60
    while Path(f'/proc/{child}').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f'/proc/{child}').exists() and not out.exists()


def first_child(pid: int) -> int:
    while True:
        for entry in Path('/proc').iterdir():
            if entry.name.isdecimal():
                try:
                    if parent_of(int(entry.name)) == pid and b'--end-with-parent' in (entry / 'cmdline').read_bytes():
                        return int(entry.name)
                except OSError:
                    continue
        time.sleep(0.02)


def test_a_killed_command_is_told_from_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    original = subprocess.Popen
    code = 'import os; os.kill(os.getpid(), 9)'

    def kill_itself(*_: Any, **settings: Any) -> Any:
        return original([sys.executable, '-c', code], **settings)

    monkeypatch.setattr(subprocess, 'Popen', kill_itself)
    with pytest.raises(KilledError, match='signal 9'):
        run_command(['simulate'], 'It')
    with pytest.raises(KilledError):
        Task('t', ('simulate',), Path()).run()
