"""What a running job reports: events through a callback, previews at a bearable rate, notices, and whether to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


NoticeCode = Literal[
    # how a file was read
    'measurement_domain', 'axis_moved', 'key_ignored', 'object_ignored', 'probe_replaced', 'pixel_size_ignored',
    'positions_matched', 'positions_interpolated', 'positions_averaged', 'positions_left_out', 'patterns_left_out',
    # what a scan holds
    'power_choice', 'photons', 'empty_patterns', 'varying_probe', 'object_layers',
    # a scan and a model
    'probe_of_model', 'refined_probe', 'gridsize', 'power_setting', 'power_unit', 'further_model',
    'probe_shape', 'dose', 'probe_power', 'overlap',
    # how a job went
    'count_gauge', 'patches_kept', 'refined_first', 'instrument', 'pretraining', 'model_kept',
]  # fmt: skip
# In what a scan can lie outside of what a model was trained for.
OUTSIDE_TRAINING: tuple[NoticeCode, ...] = ('probe_shape', 'dose', 'probe_power', 'overlap')


@dataclass(frozen=True)
class Notice:
    """A sentence for the user, and the code by which programs know what it is about."""

    code: NoticeCode
    text: str


def log_notices(emit: Emit, notices: Iterable[Notice]) -> None:
    """Emit the text of each as a log event."""
    for notice in notices:
        log(emit, notice.text)


# Times the cost of a preview that must pass before the next: all of them cost a tenth of a job's time at most.
REST_FACTOR = 10


@dataclass(eq=False)
class Previews:
    """Emits preview events that are at least `seconds` apart and cost at most a tenth of the time; None: none at all.

    One object serves the stages of a job that follow each other.
    """

    emit: Emit
    seconds: float | None
    _next: float = field(default=float('-inf'), init=False)

    def offer(
        self,
        stage: str,
        make: Callable[[], NDArray[np.complex64] | None],
        origin: tuple[float, float],
        *,
        complete: bool = False,
        **counts: Any,
    ) -> None:
        """Emit the object (H, W) that `make` returns, if it is time or the object is `complete`.

        `make` is called only then, hands out an array that nobody changes later, or None when there is nothing to show.
        """
        begin = time.monotonic()
        if self.seconds is None or (begin < self._next and not complete):
            return
        canvas = make()
        if canvas is not None:
            data = {'stage': stage, 'object': canvas, 'origin': origin, 'complete': complete, **counts}
            self.emit(Event('preview', data))
        end = time.monotonic()
        self._next = end + max(self.seconds, REST_FACTOR * (end - begin))
