"""Services of the host to a reconstructor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ptychodus.api.object import Object
from ptychodus.api.reconstruct import ReconstructInput

from ..events import ShouldStop, never
from .last_reliability import LastReliability
from .scans import HostScan


class TrainingView(Protocol):
    """Display of a training's object and losses."""

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
    lets it look anew for a model and for messages, and `select` shows the product of an index in its window. While a
    training is queued or runs, `is_training` is set; while it runs, `selected` is the scan that was selected in the
    host, and `training` shows how it goes. `reliability` holds the figures of the last reconstruction.
    """

    should_stop: ShouldStop = never
    closing: ShouldStop = never
    foreground: Callable[[Callable[[], None]], None] = lambda task: task()
    changed: Callable[[], None] = lambda: None
    select: Callable[[int], None] = lambda index: None
    training: TrainingView | None = None
    selected: ReconstructInput | None = None
    is_training: bool = False
    reliability: LastReliability = field(default_factory=LastReliability)

    @contextmanager
    def training_on(self, selected: ReconstructInput) -> Iterator[None]:
        """While the host's task of a training runs."""
        self.is_training, self.selected = True, selected
        try:
            yield
        finally:
            self.is_training, self.selected, self.training = False, None, None
