"""What a running job reports: events through a callback, previews at a bearable rate, notices, and whether to stop.

What a person would read of them also goes to Python's logging, under the name of this package.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Started:
    """A job has begun, on a device of a backend, both as people call them."""

    job: str
    device: str
    backend: str


@dataclass(frozen=True)
class Progress:
    """How much of a stage is done."""

    stage: str
    done: float
    total: float


@dataclass(frozen=True)
class Epoch:
    """An epoch of a training is complete, or a pass of a refinement, with what is known of it."""

    stage: Literal['train', 'refine']
    epoch: int
    total: int
    train_loss: float | None = None
    val_loss: float | None = None
    learning_rate: float | None = None
    patterns_seen: int | None = None
    cpu_seconds: float | None = None
    residual: float | None = None


@dataclass(frozen=True, eq=False)
class Preview:
    """The object as it is now, emitted only where it was asked for.

    `object` (H, W) complex64 is not changed later, `origin` [row, column] as in Reconstruction; `complete`: nothing
    more will be added to it in this stage. How far it is: `epoch` of `total` (train, and refine, whose epochs are
    passes) or `patterns` of `total` (network).
    """

    stage: Literal['train', 'network', 'refine']
    object: NDArray[np.complex64]
    origin: tuple[float, float]
    complete: bool
    total: int
    epoch: int | None = None
    patterns: int | None = None


@dataclass(frozen=True)
class Log:
    """A line for the user, with its level as Python's logging names it, in small letters."""

    message: str
    level: str = 'info'


@dataclass(frozen=True)
class Done:
    """A job is complete: the path of its model, or the residual of its reconstruction."""

    model: str | None = None
    residual: float | None = None


LOGGER = 'ptychopinn_reconstructor'
Event = Started | Progress | Epoch | Preview | Log | Done
Emit = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def ignore(event: Event) -> None:
    """An `emit` that drops every event."""


def never() -> bool:
    """A `should_stop` that lets the job run to its end."""
    return False


NoticeCode = Literal[
    # how a file was read
    'measurement_domain', 'axis_moved', 'key_ignored', 'object_ignored', 'probe_replaced', 'pixel_size_ignored',
    'positions_matched', 'positions_interpolated', 'positions_averaged', 'positions_left_out', 'patterns_left_out',
    'patterns_packed', 'geometry', 'outside_files',
    # what a look at a scan has mended
    'mask_inverted', 'impossible_values', 'hot_pixels', 'dark_pixels', 'single_hits', 'lost_frames', 'lost_positions',
    'beam_offset', 'count_factor',
    # what a scan holds
    'power_choice', 'photons', 'empty_patterns', 'varying_probe', 'normalized_probe', 'object_layers',
    # a scan and a model
    'probe_of_model', 'refined_probe', 'gridsize', 'power_setting', 'power_unit', 'further_model',
    'probe_shape', 'probe_modes', 'dose', 'probe_power', 'overlap',
    # how a job went
    'count_gauge', 'earlier_result', 'patches_kept', 'refined_first', 'instrument', 'pretraining', 'model_kept',
    'patches_torn', 'hardly_trained', 'start_dropped', 'passes_taken_back', 'scan_aligned', 'diagnosed', 'background',
    'intensity', 'probe_asked_for', 'no_epoch_added', 'learned_step',
]  # fmt: skip
# In what a scan can lie outside of what a model was trained for.
OUTSIDE_TRAINING: tuple[NoticeCode, ...] = ('probe_shape', 'dose', 'probe_power', 'overlap')


@dataclass(frozen=True)
class Notice:
    """A sentence for the user, and the code by which programs know what it is about."""

    code: NoticeCode
    text: str


def describe_event(event: Event) -> str:
    """Line on an event for people; empty where it is not worth one."""
    if isinstance(event, Log):
        return event.message
    if isinstance(event, Started):
        return f'{event.job}: {event.backend} on {event.device}'
    if not isinstance(event, Epoch):
        return ''
    values = {'loss': event.train_loss, 'held-out loss': event.val_loss, 'residual': event.residual}
    told = ', '.join(f'{name} {value:.4g}' for name, value in values.items() if value is not None)
    return f'{"epoch" if event.stage == "train" else "pass"} {event.epoch} of {event.total}: {told}'


def with_logging(emit: Emit) -> Emit:
    """Callback that also logs each event that is worth a line; its record has the event's fields as `event`."""
    logger = logging.getLogger(LOGGER)

    def emit_and_log(event: Event) -> None:
        if line := describe_event(event):
            level = event.level if isinstance(event, Log) else 'info'
            kind = type(event).__name__.lower()
            fields = {} if isinstance(event, Log) else {'event': {'event': kind, **asdict(event)}}
            logger.log(logging.getLevelNamesMapping().get(level.upper(), logging.INFO), '%s', line, extra=fields)
        emit(event)

    return emit_and_log


def log_notices(emit: Emit, notices: Iterable[Notice]) -> None:
    """Emit the text of each as a log event."""
    for notice in notices:
        emit(Log(notice.text))


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
        stage: Literal['train', 'network', 'refine'],
        make: Callable[[], NDArray[np.complex64] | None],
        origin: tuple[float, float],
        *,
        total: int,
        epoch: int | None = None,
        patterns: int | None = None,
        complete: bool = False,
    ) -> None:
        """Emit the object (H, W) that `make` returns, if it is time or the object is `complete`.

        `make` is called only then, hands out an array that nobody changes later, or None when there is nothing to show.
        """
        begin = time.monotonic()
        if self.seconds is None or (begin < self._next and not complete):
            return
        canvas = make()
        if canvas is not None:
            self.emit(Preview(stage, canvas, origin, complete, total, epoch, patterns))
        end = time.monotonic()
        self._next = end + max(self.seconds, REST_FACTOR * (end - begin))
