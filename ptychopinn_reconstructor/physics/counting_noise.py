"""The misfit that counting noise alone causes, from the expected counts.

E[(sqrt n - sqrt l)^2] for a Poisson count n of mean l: 2 l where l is small, at most .46 near l = 1, 1/4 where it is
large.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

FROM_SERIES = 4.0  # sqrt(counts) from which the series is exact to 5e-5, relative
TERMS = 100  # of the sum over n; at 16 counts the rest is below 1e-15
SERIES = (1 / 4, 7 / 64, 75 / 512, 3631 / 16384)  # in powers of 1 / l
# Knots of a table, evenly spaced in sqrt(l), in which the function is smooth: the sum itself would take a hundred times
# as long as the prediction. From the last one on the value is within 3e-5 of its limit.
KNOTS_PER_UNIT, LAST = 128, 64.0


def expected_residual(mean: NDArray[Any]) -> NDArray[np.float64]:
    """E[(sqrt n - sqrt l)^2] of Poisson counts n of mean l (any shape), in counts."""
    place = np.minimum(np.sqrt(np.maximum(mean, 0), dtype=np.float64), LAST) * KNOTS_PER_UNIT
    low = place.astype(np.int32)
    values, slopes = _tabulate()
    return np.asarray(values[low] + (place - low) * slopes[low])


@cache
def _tabulate() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values at the knots and the differences to the next ones: the sum over n, and the series above."""
    root = np.arange(LAST * KNOTS_PER_UNIT + 1) / KNOTS_PER_UNIT
    few = root[root < FROM_SERIES, None]
    count, mean = np.arange(TERMS), few**2
    probability = np.exp(special.xlogy(count, mean) - mean - special.gammaln(count + 1))
    small = (probability * (np.sqrt(count) - few) ** 2).sum(axis=1)
    inverse = 1 / root[len(few) :] ** 2
    large = sum(factor * inverse**power for power, factor in enumerate(SERIES))
    values = np.concatenate([small, large])
    return values, np.diff(values, append=values[-1])
