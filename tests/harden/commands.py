"""Our commands in processes that are forked from one with the frameworks loaded: a second each instead of five."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

TICKS = os.sysconf('SC_CLK_TCK') if hasattr(os, 'sysconf') else 100
COMMON = [
    f'ptychopinn_reconstructor.{name}'
    for name in ('cli.main', 'cli.train', 'cli.pretrain', 'cli.reconstruct', 'cli.study', 'io.drawing')
]
BACKENDS = {
    'torch': ['ptychopinn_reconstructor.backends.torch_lightning.training', 'torch._dynamo'],
    'tensorflow': ['ptychopinn_reconstructor.backends.tensorflow_keras.training'],
}


def start(backend: str, line: Sequence[str], log: Path, scratch: Path) -> BaseProcess:
    """The process of `ptychopinn LINE`, whose output goes to the file `log`, its temporary files to `scratch`.

    All processes of a test or campaign are forked from one, in which the framework of the first backend is imported.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([*BACKENDS[backend], *COMMON, 'harden.commands'])
    process = context.Process(target=_run, args=(list(line), str(log), str(scratch)))
    process.start()
    return process


def _run(line: list[str], log: str, scratch: str) -> None:
    os.setsid()  # a group of its own, as a shell gives to a command
    tempfile.tempdir = os.environ['TMPDIR'] = scratch
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.stdin = open(os.devnull, encoding='utf-8')  # noqa: SIM115 - closed with the process
    from ptychopinn_reconstructor.cli.main import main

    main(line)


def wait_for_cpu(process: BaseProcess, seconds: float) -> bool:
    """Wait until a process and its children have used so much CPU time; False when it has ended before."""
    while process.is_alive():
        if measure_cpu(process.pid or 0) >= seconds:
            return True
        time.sleep(0.005)
    return False


def measure_cpu(pid: int) -> float:
    """CPU seconds of a process and its children so far (Linux); 0 when it is gone."""
    try:
        used = sum(map(int, Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[11:15])) / TICKS
        return used + sum(map(measure_cpu, list_children(pid)))
    except (OSError, IndexError):
        return 0.0


def list_children(pid: int) -> list[int]:
    """The processes that a process has started and that run (Linux)."""
    children = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in children.read_text().split()] if children.exists() else []
