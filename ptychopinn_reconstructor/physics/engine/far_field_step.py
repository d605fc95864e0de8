"""The far-field step of the classical engine: how much a predicted amplitude must change to fit the counts.

| symbol | meaning                                                   | unit    |
|--------|-----------------------------------------------------------|---------|
| I      | measured counts                                           | counts  |
| I_pred | predicted intensity, modes added                          | counts  |
| g      | factor on the far field: its correction is g Psi          | 1       |
| e      | `EPSILON_COUNTS`, keeps the Poisson score finite           | counts  |
| s      | share of the Poisson score in g, 0 to 1                   | 1       |

Amplitude projection: g = sqrt(I / I_pred) - 1. It is robust, but E[sqrt(I)] < sqrt(E[I]): it biases the object low
where counts are few (a fifth at 1e3 photons on 64 x 64 pixels). Poisson score with its expected (Fisher) curvature:
g = (I - I_pred) / (2 (I_pred + e)), whose expectation vanishes at I_pred = E[I], so that it is unbiased; it trusts the
counting statistics of dark pixels, which a real detector's background does not follow. The engine blends both,
g = s g_Poisson + (1 - s) g_amplitude, with the smallest s that keeps the expected bias of the object's amplitude
below `BIAS_ALLOWED`: s = 0 at high dose, near 1 at low dose, found from the mean pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays
from ..forward import EPSILON_COUNTS
from ..prepare import PreparedScan

BIAS_ALLOWED = 0.005  # relative error of the object's amplitude that the blend may leave
SAMPLED_PATTERNS = 512  # patterns that the mean pattern is taken from, evenly spaced in canonical order
OUTLIER_SIGMA = 5.0  # beyond as many standard deviations the Poisson score falls back to the amplitude projection
DARKEST = 1e-6  # counts; a floor of I_pred, so that the amplitude projection of a dark pixel stays finite
SERIES_LIMIT = 30.0  # counts; above it lambda - sqrt(lambda) E[sqrt(I)] equals 1/8 to 2 %


class Correction(NamedTuple):
    """Factor g (b, N, N) on the far field, zero on bad pixels, and sum (sqrt(I_pred) - sqrt(I))^2 over good ones."""

    factor: Array
    error: float


def amplitude_bias(mean_pattern: NDArray[np.float64]) -> float:
    """Relative amount by which amplitude projection lowers the object's amplitude for expected counts (any shape).

    sum(lambda - sqrt(lambda) E[sqrt(I)]) / sum(lambda), I Poisson distributed about lambda.
    """
    expected = np.asarray(mean_pattern, dtype=np.float64).ravel()
    bias = np.full(expected.shape, 0.125)
    few = expected < SERIES_LIMIT
    counts = np.arange(1, 100)
    log_factorial = np.cumsum(np.log(counts))
    rate = np.maximum(expected[few], 1e-12)[:, None]
    root = np.exp(counts * np.log(rate) - rate - log_factorial) @ np.sqrt(counts)
    bias[few] = expected[few] - np.sqrt(expected[few]) * root
    return float(bias.sum() / max(float(expected.sum()), 1e-12))


def poisson_share(prepared: PreparedScan) -> float:
    """The share s of the Poisson score that keeps the amplitude's bias within `BIAS_ALLOWED`, from the mean pattern."""
    index = np.unique(np.linspace(0, len(prepared) - 1, SAMPLED_PATTERNS).astype(np.int64))
    total = np.zeros((prepared.n_pixels,) * 2)
    for part in np.array_split(index, -(-len(index) // 32)):
        total += prepared.counts(part).sum(axis=0, dtype=np.float64)
    bias = amplitude_bias(total[prepared.good] / len(index))
    return max(0.0, 1.0 - BIAS_ALLOWED / max(bias, 1e-12))


@dataclass(frozen=True, eq=False)
class FarFieldStep:
    """The blend of both steps for one scan: `share` of the Poisson score, `good` (N, N) pixels or None for all."""

    share: float
    good: Array | None = None
    arrays: Arrays = NUMPY

    @classmethod
    def for_scan(cls, prepared: PreparedScan, arrays: Arrays = NUMPY) -> FarFieldStep:
        """The step for the dose and the bad pixels of a scan."""
        share = float(np.float32(poisson_share(prepared)))  # in the precision of the pixels that it blends
        return cls(share, None if prepared.good.all() else arrays.put(prepared.good), arrays)

    def __call__(self, counts: Array, predicted: Array) -> Correction:
        """Correction of predicted intensities (b, N, N) towards counts (b, N, N)."""
        amplitude = self.arrays.xp.sqrt(predicted.clip(min=DARKEST))
        difference = self.arrays.xp.sqrt(counts)
        difference -= amplitude
        if self.good is not None:
            difference *= self.good
        error = self.arrays.square_sum(difference)
        factor = difference
        factor /= amplitude
        if self.share > 0:
            factor *= 1 - self.share
            score = poisson_score(counts, predicted, self.arrays.xp)
            score *= self.share
            factor += score if self.good is None else score * self.good
        return Correction(factor, error)


def poisson_score(counts: Array, predicted: Array, xp: Any = np) -> Array:
    """g = (I - I_pred) / (2 (I_pred + e)), limited where the excess is beyond any counting noise.

    With r = (I + e) / (I_pred + e) it is (r - 1) / 2, at most (as of r at `OUTLIER_SIGMA` standard deviations) or the
    amplitude projection sqrt(r) - 1, whichever is larger: a bright pixel that is predicted dark converges at once.
    """
    base = predicted + EPSILON_COUNTS
    ratio = counts - predicted
    ratio /= base
    ratio += 1
    limit = xp.sqrt(base + 1)
    limit /= base
    limit *= OUTLIER_SIGMA
    limit += 1
    score = xp.minimum(ratio, limit)
    score += 1
    score *= 0.5
    score = xp.maximum(xp.sqrt(ratio), score)
    score -= 1
    return score
