"""Running one of our commands in a child process, with its cost as the operating system counts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import InputError, Interrupted, PtychoPINNError
from ..events import ShouldStop, never
from ..io.system import collect_cost

ERROR = 'ptychopinn: error: '
CAUSES = {
    'SIGBUS': 'was the scan file shortened while it was read, or its disk taken away?',
    'SIGSEGV': 'does the framework fit the machine, and is the scan file undamaged?',
}
POLL, PATIENCE = 0.05, 10.0  # seconds between two looks at a child, and from SIGTERM to SIGKILL


class KilledError(PtychoPINNError):
    """A command was ended by a signal, which says nothing against doing it again.

    Most often memory was short, and the system ended it: give it fewer patterns a batch, or fewer jobs at a time.
    """


@dataclass(frozen=True)
class Cost:
    """Wall time, CPU time and peak memory of a process; NaN where the operating system does not report them."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float


@dataclass(frozen=True)
class CompletedCommand:
    """Standard output and cost of a process that ended with exit code 0."""

    output: str
    cost: Cost


def run_command(
    arguments: Sequence[str],
    what: str,
    *,
    should_stop: ShouldStop = never,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> CompletedCommand:
    """Run `ptychopinn ARGUMENTS` in a new process; `what` ('The training with torch') begins its error's sentence.

    `folder` is its current folder, `environment` what is set beside the variables of this process. Raises InputError
    where the command ends with exit code 2, Interrupted with 130 or when asked to stop, KilledError where a signal
    ended it, otherwise PtychoPINNError; the sentence is the command's own. The process outlives neither this call nor
    this process, however that ends: its stdin is a pipe that ends with them.
    """
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', '--end-with-parent', *arguments]
    variables = {**os.environ, **(environment or {})}
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as stderr:
        start = time.perf_counter()
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=stderr, cwd=folder, env=variables
        ) as process:
            try:
                used = _wait(process, should_stop)
            finally:
                if process.returncode is None:
                    process.kill()
        wall = time.perf_counter() - start
        if should_stop():
            raise Interrupted(f'{what} was stopped on request; nothing is reported.')
        if process.returncode:
            raise _make_error(process.returncode, _read_all(stderr), what)
        seconds, memory = used
        return CompletedCommand(_read_all(out), Cost(round(wall, 2), round(seconds, 2), round(memory, 1)))


def _wait(process: subprocess.Popen[bytes], should_stop: ShouldStop) -> tuple[float, float]:
    """CPU seconds and peak memory (MiB); a request to stop sends SIGTERM, obeyed at the next batch, then SIGKILL."""
    stopped = None
    while (used := collect_cost(process)) is None:
        if stopped is None and should_stop():
            process.terminate()
            stopped = time.monotonic()
        elif stopped is not None and time.monotonic() - stopped > PATIENCE:
            process.kill()
        time.sleep(POLL)
    return used


def _read_all(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _make_error(code: int, stderr: str, what: str) -> PtychoPINNError:
    lines = [line for line in stderr.splitlines() if line.strip()]
    own = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    reason = (own or lines or ['it said nothing.'])[-1].strip()
    if code < 0:
        cause = CAUSES.get(signal.Signals(-code).name, 'was there enough memory?')
        reason = f'it was ended by signal {-code} ({signal.Signals(-code).name}); {cause}'
        return KilledError(f'{what} failed: {reason}')
    kind = {InputError.exit_code: InputError, Interrupted.exit_code: Interrupted}.get(code, PtychoPINNError)
    return kind(f'{what} failed: {reason}')
