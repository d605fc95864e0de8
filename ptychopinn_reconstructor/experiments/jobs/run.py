"""Running a list of jobs on an engine; one that was lost with its process is handed over again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from ...errors import Interrupted, quote
from ...events import Emit, Log, ShouldStop, ignore, never
from .interface import Engine, Handle
from .task import Task

POLL = 0.2  # seconds between two looks at the jobs
ATTEMPTS = 3  # a job that takes its process along every time is at fault itself


def run_tasks(
    tasks: Sequence[Task], engine: Engine, *, emit: Emit = ignore, should_stop: ShouldStop = never
) -> Iterator[tuple[Task, str]]:
    """Each job as it ends, with the sentence of its error or ''; Interrupted when asked to stop.

    Jobs that are still with the engine when the iteration ends are asked to end too.
    """
    attempts: Counter[str] = Counter()
    pending: list[tuple[Handle, Task]] = [*zip(engine.submit(tasks), tasks, strict=True)]
    try:
        while pending:
            if should_stop():
                raise Interrupted('Stopped on request.')
            ended = [pair for pair in pending if pair[0].done()]
            for handle, task in ended:
                pending.remove((handle, task))
                error = _take_result(handle)
                if isinstance(error, Exception):
                    attempts[task.name] += 1
                    if attempts[task.name] < ATTEMPTS:
                        emit(Log(f'{task.name} was lost ({_shorten(error)}) and is done again.'))
                        pending.append((engine.submit([task])[0], task))
                        continue
                    error = f'{task.name} was lost {ATTEMPTS} times, at last by: {_shorten(error)}'
                yield task, error
            if not ended:
                time.sleep(POLL)
    finally:
        for handle, _ in pending:
            handle.cancel()


def _take_result(handle: Handle) -> str | Exception:
    try:
        return handle.result()
    except Exception as error:  # an engine has its own for each way of losing a process
        return error


def _shorten(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {lines[-1].strip() if lines else quote(error)}'
