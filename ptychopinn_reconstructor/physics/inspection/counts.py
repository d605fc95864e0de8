"""What one count is in patterns that hold counts, or their square root, times a constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...scan import Domain

_SAMPLED_PATTERNS = 64  # patterns looked at
_WHOLE_SHARE = 0.99  # share of the values that must fit; the rest may be inpainted pixels
_TOLERANCE, _MAX_WHOLE = 1e-3, 1e4  # of an integer; above, float32 no longer resolves the steps of squares
_STEP_VALUES, _MIN_VALUES = 64, 200  # distinct values that give the step; values that must be small enough to judge
_DISTINCT = 20  # numbers that have a common factor by chance once in 2^20


def sample_patterns(patterns: NDArray[Any]) -> NDArray[np.float64]:
    """64 of (n, N, N) patterns, evenly spaced, in a copy with zero for what is not finite."""
    step = max(1, -(-len(patterns) // _SAMPLED_PATTERNS))
    sample = np.array(patterns[::step], dtype=np.float64)
    sample[~np.isfinite(sample)] = 0.0
    return sample


def find_count_unit(sample: NDArray[np.float64], domain: Domain = 'counts') -> float | None:
    """The value of one count in intensities of a `sample`, its squares where `domain` is 'amplitude'.

    None where fewer than 99 % of those above zero are multiples of one number. The common factor of whole numbers
    counts from 20 different ones on.
    """
    values, repeats = np.unique(sample[sample > 0] ** (1 if domain == 'counts' else 2), return_counts=True)
    if repeats[values == np.round(values)].sum() >= _WHOLE_SHARE * repeats.sum():
        return _find_common_factor(values)
    unit = next((unit for unit in _propose_units(values, repeats) if _are_whole(values / unit, repeats)), None)
    return None if unit is None else unit * _find_common_factor(values / unit)


def _find_common_factor(values: NDArray[np.float64]) -> float:
    """That of whole numbers which most of `values` are, 1 where fewer than 20 of them tell."""
    near = values[(values > 0.5) & (values < _MAX_WHOLE)]
    whole = np.unique(np.rint(near[np.abs(near - np.rint(near)) < _TOLERANCE + 1e-6 * near]).astype(np.int64))
    return float(np.gcd.reduce(whole)) if len(whole) >= _DISTINCT else 1.0


def _propose_units(values: NDArray[np.float64], repeats: NDArray[np.int64]) -> Iterator[float]:
    """Candidates for the value of one count, from sorted values: 1, the step between repeated values, the smallest."""
    yield 1.0
    repeated = values[repeats > 1]
    if len(repeated) > 2:
        step = float(np.median(np.diff(repeated[:_STEP_VALUES])))
        near = repeated[repeated < 200.0 * step]
        number = np.round(near / step)
        if number.any():
            yield float(near @ number / (number @ number))
    if len(repeated):
        yield float(repeated[0])


def _are_whole(values: NDArray[np.float64], repeats: NDArray[np.int64]) -> bool:
    small = values < _MAX_WHOLE
    distance = np.abs(values[small] - np.round(values[small]))
    near = (distance < _TOLERANCE + 1e-6 * values[small]) & (values[small] > 0.5)
    weights = repeats[small]
    return bool(weights.sum() >= _MIN_VALUES and weights[near].sum() >= _WHOLE_SHARE * weights.sum())
