"""What a running job tells the outside: events through a callback, and a question whether to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal['started', 'progress', 'epoch', 'preview', 'log', 'done']


@dataclass(frozen=True)
class Event:
    """One message of a job.

    `kind` and the keys of `data`: started (job, total), progress (stage, done, total), epoch (stage, epoch, total and
    the metrics of that epoch), preview (below), log (level, message), done (summary).

    A preview is the object as it is now: `stage` (train, network or refine), `object` (H, W) complex64 that nobody
    changes later, `origin` [row, column] as in Reconstruction, `complete` (nothing more will be added to it in this
    stage), and how far it is: `epoch` of `total` (train, and refine, whose epochs are passes) or `patterns` of `total`
    (network). A preview is emitted only where it was asked for.
    """

    kind: Kind
    data: Mapping[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def ignore(event: Event) -> None:
    """An `emit` that drops every event."""


def never() -> bool:
    """A `should_stop` that lets the job run to its end."""
    return False


def log(emit: Emit, message: str, level: str = 'info') -> None:
    """Emit a log event."""
    emit(Event('log', {'level': level, 'message': message}))
