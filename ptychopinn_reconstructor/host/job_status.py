"""What the window says of the job that runs, and of the one that failed last."""

from __future__ import annotations

import time
from collections.abc import Callable

from ptychodus.api.observer import Observable

from ..worker.messages import Epoch, Preview

FINISHING = 'Stopped: making a model of the best epoch ...'
Foreground = Callable[[Callable[[], None]], None]


class JobStatus(Observable):
    """Line on the running job, and the error of the last one; observers are notified in the host's main thread.

    `has_output`: the running job has yielded something to show.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line, self.problem = '', ''
        self.has_output = False

    def begin(self, line: str) -> None:
        """A job was asked for: its first line replaces an earlier error; called in the main thread."""
        self._set(line, '')

    def tell(self, line: str, foreground: Foreground) -> None:
        """Replace the line on the running job; an empty one when it is over. From any thread."""
        foreground(lambda: self._set(line, self.problem))

    def fail(self, problem: str, foreground: Foreground) -> None:
        """The job has failed, for a reason that stays until the next job. From any thread."""
        foreground(lambda: self._set('', problem))

    def _set(self, line: str, problem: str) -> None:
        if (line, problem) != (self.line, self.problem):
            self.line, self.problem = line, problem
            self.notify_observers()


class TrainingClock:
    """Seconds an epoch, and what is left of a training, from the times at which its epochs end.

    The first epoch of a run begins at a time that nobody knows, after framework and scan are there.
    """

    def __init__(self, cpu_limit: float | None) -> None:
        self._cpu_limit = cpu_limit
        self._first: tuple[float, float, int] | None = None

    def describe(self, epoch: Epoch) -> str:
        """Line for the window after an epoch: its number, losses, and from the second on the time that it takes."""
        held_out = '' if epoch.val_loss is None else f', held-out loss {epoch.val_loss:.4g}'
        losses = f'Epoch {epoch.epoch} of {epoch.total}: loss {epoch.train_loss:.4g}{held_out}'
        now, cpu = time.monotonic(), epoch.cpu_seconds or 0.0
        if self._first is None or epoch.epoch <= self._first[2]:
            self._first = now, cpu, epoch.epoch
            return losses
        begin, cpu_begin, first = self._first
        seconds = (now - begin) / (epoch.epoch - first)
        left = seconds * (epoch.total - epoch.epoch)
        if self._cpu_limit and cpu > cpu_begin:
            left = min(left, (now - begin) * max(0.0, self._cpu_limit - cpu) / (cpu - cpu_begin))
        return f'{losses}; {format_seconds(seconds)} an epoch, {format_seconds(left)} left'


def describe_preview(preview: Preview) -> str:
    """Line for the window on how far a reconstruction is."""
    if preview.stage == 'network':
        return f'The network: {preview.patterns or 0} of {preview.total} patterns'
    return f'Refinement: pass {preview.epoch or 0} of {preview.total}'


def format_seconds(seconds: float) -> str:
    """Time in the unit that people would use: 0.4 s, 12 s, 3 min, 2.5 h."""
    if seconds < 10:
        return f'{seconds:.1f} s'
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
