"""The power of the beam, pattern by pattern, apart from what the object absorbs.

| symbol | meaning                                                                    | unit             |
|--------|----------------------------------------------------------------------------|------------------|
| s      | factor of a pattern on the power of the beam; its mean over the scan is 1  | 1                |
| k      | slope of log abs(O) beyond the object's where a pattern was taken          | 1 / pixel        |
| A      | sqrt(I + 3/8), as in `wavefront`                                           | sqrt(counts)     |
| J      | dA_pred / dk, less its part along dA_pred / d log s                        | sqrt(counts) pixel|

The counts of a pattern less the predicted ones give its s (`DetectorSums`), drawn towards 1 by the share of the scatter
that is counting noise. What s and the amplitude of the object cannot tell apart is a change that is slow over the scan:
a beam that decays and an object that grows denser predict the same counts, and passes do not tell them apart. Patterns
do: an amplitude that has a slope changes where on the detector the light is, by as much as a slope of the phase does.
As the long-range phase, the long-range amplitude is solved for in closed form from the slopes of all patterns, each
freed of its own s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays
from ..prepare import PreparedScan
from .detector import DetectorSums
from .sloped_waves import ANSCOMBE, SlopedWaves, Slopes, gather_slopes, measure_mean_square
from .wavefront import long_range_phase

LONGEST_STEP = 0.5  # of log s, a pass
ROBUST = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
LARGEST = 0.5  # of the long-range log abs(O): more is no drift of a beam
UNEXPLAINED, LITTLE = 2.0, 0.2  # times counting noise, and of all slopes: more is left where the object is not known
DRIFT_NOISE = 1.35  # rms of the long-range log abs(O) that counting noise may leave, times sqrt(counts of a pattern)
DARKEST = 1e-6  # counts


def step_intensity(prepared: PreparedScan, sums: DetectorSums) -> NDArray[np.float32]:
    """s (n,) after a step of Fisher scoring from the scan's own, drawn towards 1 as its noise demands."""
    deviation, noise = intensity_deviation(prepared, sums)
    scatter = excess_scatter(deviation, noise)
    kept = scatter**2 / (scatter**2 + noise**2) if scatter else np.zeros_like(noise)
    return normalize(np.exp(deviation * kept))


def intensity_deviation(prepared: PreparedScan, sums: DetectorSums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log s (n,) after that step, less its median, and the standard deviation (n,) that counting noise gives it."""
    information = np.maximum(sums.pattern_information, 1e-9)
    found = np.clip(sums.pattern_score / information, -LONGEST_STEP, LONGEST_STEP)
    if prepared.intensity is not None:
        found += np.log(prepared.intensity)
    return found - np.median(found), 1 / np.sqrt(information)


def excess_scatter(deviation: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """Standard deviation of deviations (n,), from their median, beyond that of their noise (n,)."""
    spread = ROBUST * float(np.median(np.abs(deviation)))
    return float(np.sqrt(max(0.0, spread**2 - float(np.median(noise)) ** 2)))


def normalize(intensity: NDArray[np.float64]) -> NDArray[np.float32]:
    """Factors (n,) divided by their mean."""
    return np.asarray(intensity / intensity.mean(), dtype=np.float32)


class LongRangeAmplitude(NamedTuple):
    """What a canvas lacks of log abs(O), (H, W), its mean in the light 0, and (n,) at the patterns.

    `total` is the mean square of the slopes in units of their counting noise, `rest` that of what it leaves of them.
    """

    image: NDArray[np.float32]
    at_patterns: NDArray[np.float64]
    total: float
    rest: float

    @property
    def explains(self) -> bool:
        """Whether it leaves no more than noise, or little: else the object is not yet known, and slopes mislead."""
        return self.rest < max(UNEXPLAINED, LITTLE * self.total)

    def exceeds(self, least: float, counts: float) -> bool:
        """Whether its rms at the patterns is above `least` times what the noise of so many counts a pattern makes."""
        return float(self.at_patterns.std()) > least * DRIFT_NOISE / math.sqrt(max(counts, 1.0))


def long_range_amplitude(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64],
    light: NDArray[np.float32],
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> LongRangeAmplitude:
    """The long-range amplitude that a canvas (H, W) of `arrays` lacks; `light` (H, W) is what it is averaged with."""
    found = amplitude_slopes(prepared, canvas, probe, arrays, after_block)
    image = long_range_phase(prepared.layout, found, probe, arrays)
    image = np.clip(image - np.float32(np.average(image, weights=light)), -LARGEST, LARGEST)
    along = np.stack([sample_at_patterns(prepared, part, probe) for part in np.gradient(image)], axis=1)
    left = found.gradient - np.einsum('nab,nb->na', found.curvature, along)
    total, rest = (measure_mean_square(replaced) for replaced in (found, found._replace(gradient=left)))
    return LongRangeAmplitude(image, sample_at_patterns(prepared, image, probe), total, rest)


def sample_at_patterns(
    prepared: PreparedScan, image: NDArray[np.float32], probe: NDArray[np.complex64]
) -> NDArray[np.float64]:
    """An image (H, W), smooth, where the light of each pattern is, (n,)."""
    intensity = (np.abs(probe) ** 2).sum(axis=0, dtype=np.float64)
    center = np.array([intensity.sum(axis=1), intensity.sum(axis=0)]) @ np.arange(probe.shape[-1]) / intensity.sum()
    row, column = np.rint(prepared.layout.corners + prepared.layout.fractions + center).astype(np.int64).T
    return np.asarray(image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)], dtype=np.float64)


def amplitude_slopes(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64],
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> Slopes:
    """What each pattern says of k, whatever its s is; arguments as those of `wavefront.slopes`."""
    return gather_slopes(prepared, canvas, probe, _amplitude_gradient, arrays, after_block)


def _amplitude_gradient(
    at: SlopedWaves, good: Array | None, arrays: Arrays
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """sum J (A - A_pred) and sum J J^T of a block of patterns."""
    xp = arrays.xp
    amplitude = xp.sqrt((at.predicted + ANSCOMBE).clip(min=DARKEST))
    # F(i x psi) is at hand; F(x psi) is what a slope of the amplitude adds.
    slope = (at.wave.conj()[:, None] * at.sloped).imag.sum(axis=2) / amplitude[:, None]
    light = (at.wave.real**2 + at.wave.imag**2).sum(axis=1) / amplitude
    known = xp.stack([slope[:, 0], slope[:, 1], light], axis=1)
    if good is not None:
        known *= good
    flat = arrays.double(known.reshape(*known.shape[:2], -1))
    excess = arrays.double((xp.sqrt(at.counts + ANSCOMBE) - amplitude).reshape(len(at.index), -1))
    score = arrays.get(xp.einsum('nap,np->na', flat, excess))
    information = arrays.get(xp.einsum('nap,nbp->nab', flat, flat))
    along = information[:, :2, 2] / np.maximum(information[:, 2, 2], 1e-12)[:, None]
    return (
        score[:, :2] - along * score[:, 2:],
        information[:, :2, :2] - along[:, :, None] * information[:, None, 2, :2],
    )
