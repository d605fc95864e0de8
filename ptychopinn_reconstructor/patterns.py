"""Diffraction patterns read block by block or on demand, and what is known once all of them have been read."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import ScanError

Domain = Literal['counts', 'amplitude']
BLOCK_BYTES = 16 * 2**20  # of float32 patterns read at a time, so that a memory-mapped scan is never held whole


class PatternsOnDemand(ABC):
    """Patterns that are read when they are asked for, indexed like an (n, H, W) array of numpy.

    Several threads may ask at once: they are read for one after the other, since a file has one place where it is read.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype, self.shape, self.ndim = np.dtype(dtype), shape, len(shape)
        self._reading = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != '_reading'}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Values of all patterns."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all patterns."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):
            first, *rest = index
            values = self[first]
            return values[(*((slice(None),) if np.ndim(values) == self.ndim else ()), *rest)]
        wanted = _as_numbers(index, len(self))
        with self._reading:
            values = self.read(wanted.ravel())
        return values.reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    @abstractmethod
    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The patterns (k, H, W) at `wanted` (k,), in any order, any of them several times."""


def _as_numbers(index: Any, total: int) -> NDArray[np.int64]:
    """The numbers of the patterns at an index of numpy, without laying out all of them for a slice or a few."""
    if isinstance(index, slice):
        return np.arange(*index.indices(total))
    rows = np.asarray(index)
    if rows.dtype.kind not in 'iu' or not rows.size:
        return np.asarray(np.arange(total)[index])
    if rows.min() < -total or rows.max() >= total:
        raise IndexError(f'{rows.min()} to {rows.max()} are not all numbers of {total} patterns')
    return np.where(rows < 0, rows + total, rows)


def split_into_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Consecutive slices over patterns of `shape` (n, N, N): 16 MiB of float32 each, at least one pattern."""
    size = max(1, BLOCK_BYTES // (4 * shape[1] * shape[2]))
    return (slice(i, min(i + size, shape[0])) for i in range(0, shape[0], size))


@dataclass(frozen=True, eq=False)
class Unit:
    """What stored patterns are: counts or their square root, what a unit of intensity counts, pixels that are bad."""

    domain: Domain
    count_unit: float
    bad_pixels: NDArray[np.bool_] | None

    def convert_to_counts(self, patterns: NDArray[Any]) -> NDArray[np.float32]:
        """Intensity in counts, bad pixels set to zero, of stored patterns (b, N, N)."""
        values = patterns.astype(np.float32)
        # Squared before scaling, since the unit is one of intensity; masked last, so that no bad pixel counts.
        if self.domain == 'amplitude':
            np.square(values, out=values)
        if self.count_unit != 1:
            values *= np.float32(self.count_unit)
        if self.bad_pixels is not None:
            values[:, self.bad_pixels] = 0.0
        return values

    def sum_counts(self, patterns: NDArray[Any]) -> NDArray[np.float64]:
        """Counts of stored patterns (b, N, N) over good pixels, (b,)."""
        return np.asarray(self.convert_to_counts(patterns).sum(axis=(1, 2), dtype=np.float64))

    def equals(self, other: Unit) -> bool:
        """Whether both are the same."""
        mine, others = (np.zeros(0) if unit.bad_pixels is None else unit.bad_pixels for unit in (self, other))
        return self.domain == other.domain and self.count_unit == other.count_unit and np.array_equal(mine, others)


@dataclass(frozen=True, eq=False)
class Counted:
    """Patterns that have all been read: their values are those of a scan, and `counts` (n,) those over good pixels."""

    patterns: Any
    unit: Unit
    counts: NDArray[np.float64]

    @classmethod
    def by_reading(cls, patterns: Any, unit: Unit) -> Counted:
        """Reads all patterns (n, N, N), once; ScanError where a value on a good pixel is negative or no number."""
        counts = []
        for where in split_into_blocks(patterns.shape):
            block = np.asarray(patterns[where])
            _check_values(block, where.start, unit.bad_pixels)
            counts.append(unit.sum_counts(block))
        return cls(patterns, unit, np.concatenate(counts))

    def tells_of(self, patterns: Any, unit: Unit) -> bool:
        """Whether it is known of these patterns in this unit."""
        return _are_same(self.patterns, patterns) and self.unit.equals(unit)


def _are_same(one: Any, other: Any) -> bool:
    """Whether two arrays are the same part of memory, or of a file."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        mine, others = one.__array_interface__, other.__array_interface__
        same = (mine[key] == others[key] for key in ('shape', 'strides', 'typestr'))
        return all(same) and mine['data'][0] == others['data'][0]
    return one is other


def _check_values(block: NDArray[Any], start: int, bad_pixels: NDArray[np.bool_] | None) -> None:
    """Check patterns (b, N, N), the first being number `start`; what lies on bad pixels may be anything."""
    good = slice(None) if bad_pixels is None else ~bad_pixels
    lost = np.zeros(0, bool) if block.dtype.kind != 'f' else ~np.isfinite(block)
    if lost.any() and lost[:, good].any():
        raise ScanError(
            'The diffraction patterns hold NaN or infinity (first in pattern '
            f'{start + _find_first(lost[:, good])}); mark such pixels in bad_pixels.'
        )
    if block.dtype.kind != 'u' and not block.min() >= 0 and (below := block[:, good] < 0).any():
        raise ScanError(
            f'The diffraction patterns hold negative values ({block[:, good].min():g}, first in pattern '
            f'{start + _find_first(below)}); mark dead pixels in bad_pixels, and where a background was '
            'subtracted keep the counts as they were.'
        )


def _find_first(condition: NDArray[np.bool_]) -> int:
    return int(np.argmax(condition.reshape(len(condition), -1).any(axis=1)))
