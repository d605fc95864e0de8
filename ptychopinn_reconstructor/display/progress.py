"""How far a job is, from its events: a line that is kept up to date in a notebook and on a terminal."""

from __future__ import annotations

import html
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from ..events import Done, Epoch, Event, Progress, Started, describe_event

RATE = 0.2  # seconds between two drawings of the line: more often only costs


@dataclass
class Standing:
    """Where a job stands: the stage, how much of it is done, and what is known of the last epoch."""

    title: str = ''
    done: float = 0.0
    total: float | None = None
    status: str = ''

    def take(self, event: Event) -> bool:
        """Take an event; whether it says anything of where the job stands."""
        if isinstance(event, Progress):
            self.title, self.done, self.total = event.stage, event.done, event.total
        elif isinstance(event, Epoch):
            self.status = describe_epoch(event)
        else:
            return False
        return True

    @property
    def share(self) -> float:
        """How much of the stage is done, between 0 and 1."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0

    def __str__(self) -> str:
        return f'{self.title}  {self.status}'.rstrip()


def describe_epoch(epoch: Epoch) -> str:
    """An epoch in a few words."""
    losses = {'train_loss': epoch.train_loss, 'val_loss': epoch.val_loss}
    text = ''.join(f', {name} {loss:.4g}' for name, loss in losses.items() if loss is not None)
    return f'epoch {epoch.epoch}/{epoch.total}{text}'


@dataclass(eq=False)
class ProgressLine:
    """An `emit` that shows how far a job is: one line that changes, in a notebook or on a terminal.

        pp.train([scan], config, 'model', emit=pp.ProgressLine())

    Elsewhere, such as in a log file, it writes a line an epoch to stderr. One serves several jobs after each other.
    """

    _standing: Standing = field(default_factory=Standing)
    _begin: float = field(default_factory=time.monotonic)
    _next: float = 0.0
    _identity: str = ''  # of the line that a notebook shows; empty before there is one
    _width: int = 0

    def __call__(self, event: Event) -> None:
        """Take an event of a job."""
        if isinstance(event, Started):
            self._standing, self._identity, self._begin = Standing(event.job), '', time.monotonic()
        known, now = self._standing.take(event), self._standing
        if isinstance(event, Done):
            told = [f'done in {time.monotonic() - self._begin:.1f} s', *filter(None, [now.status])]
            self._draw(', '.join(told), 1.0, last=True)
        elif _find_notebook() is not None or sys.stderr.isatty():
            if known and time.monotonic() >= self._next:
                self._next = time.monotonic() + RATE
                self._draw(f'{now.share:.0%}  {now}', now.share)
        elif line := describe_event(event):
            sys.stderr.write(f'{line}\n')

    def _draw(self, line: str, share: float, *, last: bool = False) -> None:
        notebook = _find_notebook()
        if notebook is not None:
            bar = f'<progress value="{share:.3f}" max="1" style="vertical-align: middle"></progress>'
            self._show(notebook, {'text/plain': line, 'text/html': f'<div>{bar} {html.escape(line)}</div>'})
            return
        begin = '\r' if sys.stderr.isatty() else ''
        sys.stderr.write(f'{begin}{line:<{self._width}}' + '\n' * last)
        sys.stderr.flush()
        self._width = 0 if last else len(line)

    def _show(self, notebook: Any, bundle: dict[str, str]) -> None:
        known, self._identity = bool(self._identity), self._identity or uuid.uuid4().hex
        notebook.display_pub.publish(bundle, transient={'display_id': self._identity}, update=known)


def _find_notebook() -> Any:
    """The shell of the notebook in whose kernel this runs; None elsewhere.

    In a terminal of IPython too, which cannot change what it has shown. IPython is there where it has been imported.
    """
    ipython = sys.modules.get('IPython')
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, 'kernel', None) is not None else None
