"""Patterns and positions that arrive apart: late, doubled, out of order, without a partner. They meet by index."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ScanError
from ..io.scratch import Scratch


class Counted(NamedTuple):
    """What has arrived: patterns and positions, each once, pairs of both, and how often something came again."""

    patterns: int
    positions: int
    pairs: int
    doubled: int


@dataclass(eq=False)
class Arrivals:
    """What has arrived so far: patterns in a scratch file in `folder`, positions, and the pairs of both.

    The first that comes under an index counts; what comes again is left out.
    """

    folder: Path | None = None
    patterns: Scratch | None = None
    doubled: int = 0
    _rows: dict[int, int] = field(default_factory=dict)
    _positions: dict[int, tuple[float, float]] = field(default_factory=dict)

    def add_patterns(self, values: ArrayLike, index: NDArray[np.int64] | None = None) -> list[int]:
        """Keep patterns (k, N, N); the indexes of those that have their positions already.

        ScanError when they are of another size than those before.
        """
        patterns = np.asarray(values)
        if patterns.ndim == 2:
            patterns = patterns[None]
        if self.patterns is None:
            self.patterns = self._begin(patterns)
        elif patterns.shape[1:] != self.patterns.shape[1:]:
            raise ScanError(
                f'Patterns of shape {patterns.shape[1:]} arrive after others of {self.patterns.shape[1:]}; '
                'begin another live scan for them.'
            )
        numbers = _number(index, len(patterns), self._rows)
        fresh = self._select_fresh(numbers, self._rows)
        first = len(self.patterns)
        self.patterns.append(_fit(patterns[fresh], self.patterns.dtype))
        self._rows.update({numbers[at]: first + row for row, at in enumerate(fresh)})
        return [numbers[at] for at in fresh if numbers[at] in self._positions]

    def add_positions(self, values: ArrayLike, index: NDArray[np.int64] | None = None) -> list[int]:
        """Keep positions (k, 2) [row, column]; the indexes of those that have their patterns already.

        A position that is not finite is none: another may come for it.
        """
        positions = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise ScanError(f'The positions have shape {np.shape(values)}; expected (k, 2): [row, column] of each.')
        numbers = _number(index, len(positions), self._positions)
        known = [at for at in self._select_fresh(numbers, self._positions) if np.isfinite(positions[at]).all()]
        self._positions.update({numbers[at]: (positions[at, 0], positions[at, 1]) for at in known})
        return [numbers[at] for at in known if numbers[at] in self._rows]

    def pairs(self) -> NDArray[np.int64]:
        """Indexes of the patterns that have a position, rising."""
        return np.array(sorted(self._rows.keys() & self._positions.keys()), dtype=np.int64)

    def rows(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in the scratch file the patterns of an index (k,) are."""
        return np.array([self._rows[number] for number in index.tolist()], dtype=np.int64)

    def positions(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Their positions (k, 2)."""
        return np.array([self._positions[number] for number in index.tolist()], dtype=np.float64).reshape(-1, 2)

    def count(self) -> Counted:
        """How much has arrived."""
        pairs = len(self._rows.keys() & self._positions.keys())
        return Counted(len(self._rows), len(self._positions), pairs, self.doubled)

    def _begin(self, patterns: NDArray[Any]) -> Scratch:
        if patterns.ndim != 3 or patterns.shape[1] != patterns.shape[2] or patterns.dtype.kind not in 'uif':
            raise ScanError(
                f'The patterns have shape {patterns.shape} and type {patterns.dtype}; expected (k, N, N) real numbers.'
            )
        return Scratch(patterns.dtype, patterns.shape[1:], self.folder, 'The patterns of a live scan')

    def _select_fresh(self, numbers: list[int], there: dict[int, Any]) -> list[int]:
        """Which of `numbers` are not there yet, each once."""
        seen: dict[int, int] = {}
        for at, number in enumerate(numbers):
            if number not in there:
                seen.setdefault(number, at)
        self.doubled += len(numbers) - len(seen)
        return list(seen.values())


def _number(index: NDArray[np.int64] | None, count: int, there: dict[int, Any]) -> list[int]:
    """The indexes handed in, or the next ones."""
    if index is None:
        first = max(there, default=-1) + 1
        return [*range(first, first + count)]
    numbers = np.atleast_1d(np.asarray(index))
    if numbers.shape != (count,) or numbers.dtype.kind not in 'ui':
        raise ScanError(f'The index has shape {numbers.shape} and type {numbers.dtype}; expected {count} integers.')
    return [int(number) for number in numbers]


def _fit(patterns: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Patterns in the type of those before; ScanError when that cannot hold their values."""
    if patterns.dtype == dtype:
        return patterns
    fitted = patterns.astype(dtype)
    if not np.array_equal(fitted, patterns, equal_nan=patterns.dtype.kind == 'f'):
        raise ScanError(
            f'Patterns of type {patterns.dtype} arrive after others of {dtype}, which cannot hold their values; '
            'send all in one type.'
        )
    return fitted
