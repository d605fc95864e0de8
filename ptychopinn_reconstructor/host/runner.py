"""Worker process as the host sees it: start, messages as an iterator, cancellation, and cause of its end.

Nothing here knows Ptychodus or Qt. The worker never outlives the `with` block, nor, since its stdin closes then, this
process.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from .. import errors
from ..errors import Interrupted, PtychoPINNError
from ..events import ShouldStop, never
from ..worker.messages import Error, Message, Stopped, parse_message
from ..worker.requests import Request, TrainRequest

POLL = 0.05  # seconds between two looks at the child and at the host's wish to stop
GRACE = 0.7  # seconds that a job has to stop by itself
LAST_WORDS = 0.3  # seconds in which the events of an ended process may still arrive
STDERR_LINES = 60
logger = logging.getLogger(__name__)


class WorkerDied(PtychoPINNError):  # noqa: N818 - says what happened
    """Raised if the worker ends without a message; names the exit code and the likely cause."""


class Worker:
    """Worker process in a scratch folder: send one request with `ask`, then iterate over `events`.

    `backend` (an entry-point name) is imported at once, while the caller hands its data over.
    """

    def __init__(self, scratch: Path, backend: str = '', should_stop: ShouldStop = never) -> None:
        self.scratch, self.backend, self.should_stop = scratch, backend, should_stop
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stdout_ended = threading.Event()
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._deadline: float | None = None  # until when a job that was asked to stop may go on
        self.when_stopped = 'Stopped on request.'  # the sentence for it, also where the job itself had no time for one

    def __enter__(self) -> Self:
        command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor.worker.main']
        self.process = subprocess.Popen(
            [*command, self.backend] if self.backend else command,
            cwd=self.scratch,
            # What frameworks leave in the folder for temporary files goes with the job's.
            env={'TF_CPP_MIN_LOG_LEVEL': '2', **os.environ, 'TMPDIR': str(self.scratch)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding='utf-8',
            errors='replace',
        )
        for target, stream in ((self._read_messages, self.process.stdout), (self._read_stderr, self.process.stderr)):
            threading.Thread(target=target, args=(stream,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was still to be written to a process that is gone
                    continue

    def ask(self, request: Request) -> None:
        """Send the one request."""
        if isinstance(request, TrainRequest):
            self.when_stopped = 'Stopped on request; the last checkpoint is kept.'
        self._send(request.model_dump_json())

    def events(self) -> Iterator[Message]:
        """Messages of the worker, `done` last.

        Raises the worker's own error, Interrupted when it was stopped, WorkerDied when it ended without either.
        """
        ended_at = None
        while True:
            message = self._next()
            if message is not None:
                yield _raise_error(message)
                if message.event == 'done':
                    return
            now = time.monotonic()
            if message is None and self.process.poll() is not None:
                ended_at = now if ended_at is None else ended_at
                all_read = self._stdout_ended.is_set() and self._messages.empty()
                if all_read or now - ended_at > LAST_WORDS:
                    raise self._explain_end()
            elif self._deadline is None and self.should_stop():  # asked however fast messages come
                self._ask_to_stop()
            elif self._deadline is not None and now > self._deadline:
                raise Interrupted(self.when_stopped)

    def _next(self) -> Message | None:
        """Next message; None if none arrives within POLL seconds."""
        try:
            return self._messages.get(timeout=POLL)
        except queue.Empty:
            return None

    def _explain_end(self) -> PtychoPINNError:
        code = self.process.wait()
        if self.should_stop():
            return Interrupted(self.when_stopped)
        return WorkerDied(
            f'The worker process ended with exit code {code}{_explain_exit_code(code)}{self._last_stderr_line()}'
        )

    def _last_stderr_line(self) -> str:
        lines = [line for line in self._stderr if line.strip()]
        return f' Its last words: {lines[-1].strip()}' if lines else ''

    def _ask_to_stop(self) -> float:
        """Time until which the job may go on, after it is asked once to stop."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE
            self._send('stop')
        return self._deadline

    def _end(self) -> None:
        """End the process: ask, terminate, kill, each after a delay."""
        if self.process.poll() is None:
            rest = max(0.0, self._ask_to_stop() - time.monotonic())
            for patience, act in ((rest, self.process.terminate), (0.25, self.process.kill)):
                try:
                    self.process.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    act()
        self.process.wait()

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + '\n')
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it is gone already, which `events` finds out
            return

    def _read_messages(self, stream: IO[str]) -> None:
        for line in stream:
            try:
                self._messages.put(parse_message(line))
            except ValidationError:  # of another version of this package, or not ours: its last words may explain it
                self._stderr.append(line)
        self._stdout_ended.set()

    def _read_stderr(self, stream: IO[str]) -> None:
        for line in stream:
            self._stderr.append(line)
            logger.debug('worker: %s', line.rstrip())


def _raise_error(message: Message) -> Message:
    """The message itself; failures and stops are raised as exceptions."""
    if isinstance(message, Error):
        kind = getattr(errors, message.kind, PtychoPINNError)
        raise kind(message.message)
    if isinstance(message, Stopped):
        raise Interrupted(message.message)
    return message


def _explain_exit_code(code: int) -> str:
    """Clause with the likely cause of an exit code."""
    if code >= 0:
        return ', without saying why.'
    names = {int(number): number.name for number in signal.Signals}
    name = names.get(-code, f'signal {-code}')
    causes: dict[int, str] = {
        signal.SIGKILL: 'most likely out of memory: use a smaller batch size or fewer patterns, or free some memory',
        signal.SIGSEGV: 'a crash inside the framework: try another device or reinstall the backend',
        signal.SIGABRT: 'the framework gave up: try another device or reinstall the backend',
        signal.SIGBUS: 'a file was shortened while it was read, or the disk of the scratch folder is full or gone: '
        'leave the files alone meanwhile, or set another ScratchDir',
        signal.SIGILL: 'the framework was built for another processor: reinstall the backend',
        signal.SIGTERM: 'another program has terminated it',
    }
    return f' ({name}), {causes[-code]}.' if -code in causes else f' ({name}).'
