"""How long a pattern takes from its sender to the canvas, in memory that does not grow."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES = np.geomspace(1e-3, 1e3, 121)  # seconds: twenty bins a decade


@dataclass(eq=False)
class Latencies:
    """A histogram of seconds, `counts` between the `EDGES`, the first and last bins open."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES) + 1, dtype=np.int64))
    _waiting: dict[int, tuple[bool, float]] = field(default_factory=dict)

    def note(self, index: NDArray[np.int64], is_pattern: bool, sent: float) -> list[float]:
        """Note what was sent at a time, in seconds since 1970; when the later part of each complete pair was sent."""
        complete = []
        for number in index.tolist():
            other = self._waiting.get(number)
            if other is None or other[0] == is_pattern:
                self._waiting[number] = (is_pattern, sent)
            else:
                del self._waiting[number]
                complete.append(max(sent, other[1]))
        return complete

    def arrive(self, sent: list[float]) -> None:
        """Count pairs that were sent at these times and are on the canvas now."""
        seconds = time.time() - np.array(sent)
        np.add.at(self.counts, np.searchsorted(EDGES, seconds), 1)

    def percentile(self, percent: float) -> float | None:
        """A percentile in seconds, to the width of a bin (12 %); None before the first."""
        total = int(self.counts.sum())
        if not total:
            return None
        at = int(np.searchsorted(np.cumsum(self.counts), percent / 100 * total))
        return float(EDGES[min(at, len(EDGES) - 1)])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, in milliseconds: `median`, `p90`, and `histogram` as pairs of upper edge and count."""
        found = {name: self.percentile(percent) for name, percent in (('median', 50), ('p90', 90), ('p99', 99))}
        used = np.flatnonzero(self.counts)
        edges = [*EDGES.tolist(), 2 * float(EDGES[-1])]
        return {
            **{name: None if value is None else 1000 * value for name, value in found.items()},
            'histogram': [[1000 * edges[at], int(self.counts[at])] for at in used],
        }
