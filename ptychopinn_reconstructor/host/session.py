"""Services of the host to a reconstructor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ptychodus.api.object import Object
from ptychodus.api.reconstruct import ReconstructInput

from ..events import ShouldStop, never
from .job_status import JobStatus
from .last_reliability import LastReliability
from .scans import HostScan


class TrainingView(Protocol):
    """Display of a training's object and losses; `held_out` are those of patterns that are not trained on."""

    held_out: list[tuple[int, float]]

    def show(
        self, scan: HostScan, preview: Object | None, losses: list[tuple[int, float]], *, last: bool = False
    ) -> None:
        """Show the losses and, if there is one, the object of an epoch; called from the host's worker thread.

        What is not the last may be left out.
        """


@dataclass
class Session:
    """Services of the host; the defaults are those without a host: no stop, no display.

    `closing` says whether the host is about to end, `foreground` runs a function in its main thread. There, `changed`
    lets it look anew for a model and for messages, `select` shows the product of an index in its window, and
    `read_selected` is the scan of the product that is selected there, None without one. While a
    training is queued or runs, `is_training` is set; while it runs, `selected` is the scan that was selected in the
    host, and `training` shows how it goes. `reliability` holds the figures of the last reconstruction. `in_background`
    runs a function beside the host's tasks; None where nothing waits for its end. Meanwhile `is_finishing` is set: the
    model of a stopped training is being written. `status` says how the running job goes, `sources` the product that
    each job's own was made from, and `discard` removes the product of a job that has shown nothing in it, and selects
    the one that it was made from.
    """

    should_stop: ShouldStop = never
    closing: ShouldStop = never
    foreground: Callable[[Callable[[], None]], None] = lambda task: task()
    changed: Callable[[], None] = lambda: None
    read_selected: Callable[[], ReconstructInput | None] = lambda: None
    select: Callable[[int], None] = lambda index: None
    discard: Callable[[Any, Any], None] = lambda item, source: None
    sources: dict[int, Any] = field(default_factory=dict)
    status: JobStatus = field(default_factory=JobStatus)
    training: TrainingView | None = None
    selected: ReconstructInput | None = None
    is_training: bool = False
    is_finishing: bool = False
    in_background: Callable[[Callable[[], None]], None] | None = None
    reliability: LastReliability = field(default_factory=LastReliability)

    @contextmanager
    def training_on(self, selected: ReconstructInput) -> Iterator[None]:
        """While the host's task of a training runs."""
        self.is_training, self.selected = True, selected
        try:
            yield
        finally:
            self.is_training, self.selected, self.training = False, None, None
