"""How often the object is shown while a job runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .events import Emit, Event

REST = 10  # times what a preview has cost must pass before the next: together they cost a tenth of the time at most


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
            shown = {'stage': stage, 'object': canvas, 'origin': origin, 'complete': complete, **counts}
            self.emit(Event('preview', shown))
        end = time.monotonic()
        self._next = end + max(self.seconds, REST * (end - begin))
