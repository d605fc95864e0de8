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
# Knots of a table of the misfit for each expected count, which is smooth in sqrt(l), and evenly spaced there: the sum
# itself would take a hundred times as long as the prediction. So many that the nearest one is within 5e-4, relative, of
# any between, and the table still stays in the cache. From the last one on the misfit is within 3e-5 of its limit.
KNOTS_PER_UNIT, LAST = 128, 64.0
REFINED = 16  # knots for each of those, between which the function is a straight line


def expected_residual(mean: NDArray[Any]) -> NDArray[np.float32]:
    """E[(sqrt n - sqrt l)^2] of Poisson counts n of mean l (any shape), in counts."""
    expected = np.minimum(np.maximum(mean, 0, dtype=np.float32), np.float32(LAST**2))
    place = np.sqrt(expected)
    place *= np.float32(KNOTS_PER_UNIT * REFINED)
    place += np.float32(0.5)
    expected *= np.take(_tabulate(), place.astype(np.int32), mode='clip')
    return np.asarray(expected)


@cache
def _tabulate() -> NDArray[np.float32]:
    """The misfit for each expected count at the knots: the sum over n, and the series above; 2 in the dark."""
    root = np.arange(LAST * KNOTS_PER_UNIT + 1) / KNOTS_PER_UNIT
    few = root[root < FROM_SERIES, None]
    count, mean = np.arange(TERMS), few**2
    probability = np.exp(special.xlogy(count, mean) - mean - special.gammaln(count + 1))
    small = (probability * (np.sqrt(count) - few) ** 2).sum(axis=1)
    inverse = 1 / root[len(few) :] ** 2
    large = sum(factor * inverse**power for power, factor in enumerate(SERIES))
    values = np.concatenate([small, large])
    values[1:] /= root[1:] ** 2
    values[0] = 2
    finer = np.arange(REFINED * (len(values) - 1) + 1) / REFINED
    return np.asarray(np.interp(finer, np.arange(len(values)), values), dtype=np.float32)
