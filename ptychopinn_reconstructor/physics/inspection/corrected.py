"""Patterns with corrections that are applied when they are read, so that a memory-mapped scan is never copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...scan import PatternsOnDemand

IN_MEMORY_BYTES = 64 * 2**20  # smaller patterns are corrected at once


@dataclass(frozen=True, eq=False)
class Values:
    """Single values by frame, row and column (k,), frames increasing."""

    frames: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def none(cls) -> Values:
        """No values."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty, empty, np.zeros(0))

    def __len__(self) -> int:
        return len(self.frames)

    def of_frames(self, frames: NDArray[np.int64], count: int) -> Values:
        """Those of `frames` (increasing) out of `count`, numbered from 0 among these."""
        number = np.full(count, -1)
        number[frames] = np.arange(len(frames))
        part = self.part(number[self.frames] >= 0)
        return Values(number[part.frames], part.rows, part.columns, part.values)

    def part(self, chosen: NDArray[np.bool_]) -> Values:
        """Those of them that are `chosen` (k,)."""
        return Values(self.frames[chosen], self.rows[chosen], self.columns[chosen], self.values[chosen])

    def with_values(self, values: NDArray[Any]) -> Values:
        """The same places with other values (k,)."""
        return Values(self.frames, self.rows, self.columns, np.asarray(values, dtype=np.float64))


class CorrectedPatterns(PatternsOnDemand):
    """Some frames of (n, N, N) patterns, with single values replaced and the zero frequency moved; read like an array.

    `replaced` counts the frames among `frames`; `shift` [row, column] is by how much each pattern is rolled.
    """

    def __init__(
        self, patterns: Any, frames: NDArray[np.int64], replaced: Values, shift: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(patterns.dtype, (len(frames), *patterns.shape[1:]))
        self._patterns, self._frames, self._replaced, self._shift = patterns, frames, replaced, shift

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The patterns (k, N, N) at `wanted` (k,)."""
        values = np.array(self._patterns[_as_slice(self._frames[wanted])])
        if len(self._replaced):
            first, last = (np.searchsorted(self._replaced.frames, wanted, side) for side in ('left', 'right'))
            for at in np.flatnonzero(last > first):
                part = slice(first[at], last[at])
                values[at, self._replaced.rows[part], self._replaced.columns[part]] = self._replaced.values[part]
        return np.roll(values, self._shift, axis=(1, 2)) if any(self._shift) else values


def corrected_patterns(
    patterns: Any, frames: NDArray[np.int64], replaced: Values, shift: tuple[int, int] = (0, 0)
) -> NDArray[Any]:
    """The corrected patterns: in memory where they are small, else as `CorrectedPatterns`; as they are without any."""
    if len(frames) == len(patterns) and not len(replaced) and not any(shift):
        return patterns  # type: ignore[no-any-return]
    lazy = CorrectedPatterns(patterns, frames, replaced, shift)
    small = np.prod(lazy.shape, dtype=np.int64) * lazy.dtype.itemsize <= IN_MEMORY_BYTES
    return lazy[:] if small else lazy  # type: ignore[return-value]


def _as_slice(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Consecutive rows as a slice, which is read faster."""
    whole = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all())
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows
