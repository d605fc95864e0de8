"""Events drawn as a progress bar on stderr: on a terminal, for what takes longer than two seconds; lines elsewhere."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from ..display.progress import Standing
from ..events import Event
from .logs import logging_as_asked

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

DELAY = 2.0  # seconds


class ProgressBar:
    """A context manager whose `emit` draws what a job tells."""

    def __init__(self, title: str, *, quiet: bool = False, delay: float = DELAY) -> None:
        self.quiet, self.delay = quiet, delay
        self._standing = Standing(title)
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._timer: threading.Timer | None = None
        self._log = ExitStack()

    def __enter__(self) -> Self:
        has_lines = self._log.enter_context(logging_as_asked(quiet=self.quiet))
        if not self.quiet and not has_lines:
            self._timer = threading.Timer(self.delay, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self.quiet = True
            if self._bar is not None:
                self._bar.stop()
        self._log.close()

    def emit(self, event: Event) -> None:
        """Take an event; draws progress and epochs."""
        with self._lock:
            if self._standing.take(event):
                self._draw()

    def _show(self) -> None:
        from rich import progress
        from rich.console import Console

        with self._lock:
            if self.quiet:
                return
            self._bar = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn('{task.description}'),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._standing.title, total=None)
            self._bar.start()
            self._draw()

    def _draw(self) -> None:
        if self._bar is not None and self._task is not None:
            now = self._standing
            self._bar.update(self._task, description=str(now), completed=now.done, total=now.total)
