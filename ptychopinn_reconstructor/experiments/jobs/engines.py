"""Which engine runs the jobs, and the processes of this machine."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ...errors import ConfigError
from ...physics.threads import SHARE, available_threads
from .interface import Engine, Handle
from .task import Task

EXTRAS = {'slurm': 'submitit', 'dask': 'distributed'}


class LocalEngine:
    """So many processes on this machine as there are `environments`, the variables that tell their devices apart.

    The threads of the executor only wait for the processes.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self._free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for environment in environments:
            self._free.put(environment)
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(len(environments))

    def submit(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Hand jobs over to the processes."""
        return [self._pool.submit(self._run, task) for task in tasks]

    def _run(self, task: Task) -> str:
        environment = self._free.get()
        try:
            return task.run(should_stop=self._stopped.is_set, environment=environment)
        finally:
            self._free.put(environment)

    def close(self) -> None:
        """Ask the running processes to stop and wait for their ends."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def open_engine(
    workers: int, slurm: str | None, dask: str | None, log_folder: Path, list_gpus: Callable[[], int]
) -> Iterator[Engine | None]:
    """The engine that is asked for; None for one process of this machine, which needs none.

    `log_folder` takes what submitit writes of its jobs, `list_gpus` counts the GPUs of this machine. Raises ConfigError
    where two engines are asked for, or one that is not installed or not there.
    """
    asked = [name for name, given in {'--slurm': slurm, '--dask': dask}.items() if given is not None]
    asked += ['--workers'] if workers > 1 else []
    if len(asked) > 1:
        raise ConfigError(f'Both {asked[0]} and {asked[1]} are given; choose one of them.')
    if slurm is not None:
        check_installed('slurm')
        from .slurm import SlurmEngine

        yield SlurmEngine(slurm, log_folder)
    elif dask is not None:
        check_installed('dask')
        from .dask import open_dask

        with open_dask(dask) as engine:
            yield engine
    elif workers > 1:
        local = LocalEngine(divide_machine(workers, list_gpus()))
        try:
            yield local
        finally:
            local.close()
    else:
        yield None


def check_installed(extra: str) -> None:
    """Raise ConfigError, which says how to install it, where an engine's package is missing."""
    package = EXTRAS[extra]
    if find_spec(package) is None:
        raise ConfigError(
            f'--{extra} needs {package}, which is not installed; install it with: '
            f"pip install 'ptychopinn-reconstructor[{extra}]'."
        )


def divide_machine(workers: int, gpus: int) -> list[Mapping[str, str]]:
    """The variables of each of so many processes: its share of the cores, and a GPU, in turn where there are fewer.

    Threads that a configuration asks for count more than that share.
    """
    names = [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]
    names = names or [str(number) for number in range(gpus)]
    cores = {SHARE: str(max(1, available_threads() // workers))}
    devices = [{'CUDA_VISIBLE_DEVICES': names[number % len(names)]} if gpus else {} for number in range(workers)]
    return [cores | device for device in devices]
