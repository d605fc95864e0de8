"""Values that no detector counts: what stands for 'no data' in the files of detectors, as it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...patterns import Unit, split_into_blocks
from .corrected import Values

# Never a count: what integers of 32 and 64 bits can hold at most and one less (gaps and defects of hybrid-pixel
# detectors), and the same in single precision; 2^31 - 1; minus one and two.
NEVER = (-1, -2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1, 2**64)
# The full scale of fewer bits is also what a saturated pixel counts: it stands for 'no data' where it never changes.
FULL_SCALE = tuple(2**bits - 1 - less for bits in (8, 10, 12, 14, 15, 16, 20, 24) for less in (0, 1))
SMALLEST = 254  # of FULL_SCALE: nothing is looked for in patterns that stay below
ALWAYS = 0.95  # share of the frames
OFTEN = 0.05  # share of the frames in which a pixel may have no data without being bad
LOST = 0.3  # share of the pixels: with more of them without data, a frame is lost
MOST = 0.5  # share of the pixels that may be bad


class Impossible(NamedTuple):
    """Pixels (N, N) bool that hold no data, frames (n,) bool that are lost, single values (k,) without data.

    `counts` (n,) of the patterns in the unit that was given, where all values may be counts; else None.
    """

    pixels: NDArray[np.bool_]
    frames: NDArray[np.bool_]
    single: Values
    counts: NDArray[np.float64] | None = None


def impossible_values(patterns: Any, bad_pixels: NDArray[np.bool_], unit: Unit | None = None) -> Impossible:
    """Values in (n, N, N) patterns, as stored, that no detector counts; none are looked for under `bad_pixels` (N, N).

    NaN, infinity and the numbers of NEVER count in any frame, those of FULL_SCALE where a pixel never has another.
    Read once, the patterns are counted in `unit` as well.
    """
    n, side = len(patterns), patterns.shape[1]
    counts: list[NDArray[np.float64]] = []
    found = _never(patterns, lambda values: counts.append(unit.sum_counts(values)) if unit is not None else None)
    places = [np.argwhere(marked & ~bad_pixels) + np.array([start, 0, 0]) for start, marked in found]
    frames, rows, columns = np.concatenate([np.zeros((0, 3), np.int64), *places]).T
    lost = np.bincount(frames, minlength=n) > LOST * (~bad_pixels).sum()
    if lost.sum() > MOST * n:  # not the frames are at fault but the pixels
        lost[:] = False
    kept = ~lost[frames]
    often = np.zeros((side, side), np.int64)
    np.add.at(often, (rows[kept], columns[kept]), 1)
    pixels = (often > max(OFTEN * (~lost).sum(), 1)) | _stuck_at_full_scale(patterns, ~lost) & ~bad_pixels
    kept &= ~pixels[rows, columns]
    single = Values(frames[kept], rows[kept], columns[kept], np.zeros(int(kept.sum())))
    counted = np.concatenate(counts) if counts else None
    return Impossible(pixels, lost, single, counted if counted is not None and len(counted) == n else None)


def _never(patterns: Any, usual: Callable[[NDArray[Any]], None]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Start and marked values of those blocks that hold values which are never counted; `usual` takes all others."""
    wanted = [value for value in NEVER if _holds(patterns.dtype, value)]
    for block in split_into_blocks(patterns.shape):
        values = np.asarray(patterns[block])
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high < 2**31 - 1:  # false for NaN
            usual(values)
            continue
        marked = ~np.isfinite(values) if patterns.dtype.kind == 'f' else np.zeros(values.shape, bool)
        noisy = bool((values < -2).any())  # what a subtracted background has left, not 'no data'
        for value in (value for value in wanted if value >= 0 or not noisy):
            marked |= values == np.asarray(value, dtype=patterns.dtype)
        if marked.any():
            yield block.start, marked


def _holds(dtype: np.dtype[Any], value: int) -> bool:
    if dtype.kind == 'f':
        return bool(abs(value) <= float(np.finfo(dtype).max))
    return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)


def _stuck_at_full_scale(patterns: Any, frames: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (N, N) that have one and the same value of FULL_SCALE in 95 % of the frames."""
    kept = np.flatnonzero(frames)
    first, last = (np.asarray(patterns[int(kept[at])]) for at in (0, -1))
    middle = np.asarray(patterns[int(kept[len(kept) // 2])])
    value = np.where(first == last, first, middle)
    candidates = np.isin(value, FULL_SCALE) & ((first == last) | (first == middle) | (last == middle))
    if not candidates.any():
        return np.zeros(value.shape, bool)
    same = np.zeros(value.shape, np.int64)
    for block in split_into_blocks(patterns.shape):
        same += (np.asarray(patterns[block]) == value)[frames[block]].sum(axis=0)
    return np.asarray(candidates & (same >= ALWAYS * len(kept)))
