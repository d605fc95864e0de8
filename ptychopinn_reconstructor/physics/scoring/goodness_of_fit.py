"""Tests of a fit by what it leaves: background, bad pixels, outlier patterns, the mean pattern, a too bright object.

Each is a figure of the data and the prediction alone, in units of counts or of counting noise, and needs no truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..counting_noise import expected_residual
from ..residual import LIT, DetectorSums, Residual

# Of the detector: the pixels of which least light is predicted, far from the beam; more of them where counts are few.
DARK_SHARES = (0.25, 0.5)
FEWEST_PATTERNS, FEWEST_PIXELS = 16, 32  # for a variance over patterns, and for its mean over pixels
# Coherent speckle has a contrast of 1 and more, measured .7 to 3.5; light that is the same in all patterns has none.
LOW_CONTRAST = 0.35
STANDARD_ERRORS = 3.0
IGNORED_BACKGROUND = 0.001  # of the counts: less than this changes no object
NEIGHBORS = 5  # pixels: side of the square whose median tells what a detector pixel should be like
MOST_HOT, MOST_DEAD = 0.02, 0.12  # of the pixels: gaps between modules are up to a tenth of a detector
ISOLATED = 4.0  # times its neighbors: brighter than any speckle is
# Patterns that stand out: times the median ratio; as a share of the counts, at least, and times the median deviation.
OUTLIER_RATIO, OUTLIER_EXCESS, OUTLIER_DEVIATIONS = 1.8, 0.08, 16.0
FEWEST_CLIPPED = 8.0  # counts: of fewer the largest may be the same in many patterns
SMOOTHED = 5  # pixels: the transmission of single pixels is noise
BRIGHT = 1.1  # amplitude that no transmission exceeds, with room for noise


@dataclass(frozen=True)
class Background:
    """Counts that no object explains: mean per detector pixel and pattern, and as a share of all counts."""

    per_pixel: float
    share: float


def measure_excess(misfit: Residual) -> float:
    """Misfit beyond counting noise as a share of the counts; negative where the object follows the noise."""
    return float((misfit.lit_error.sum() - misfit.lit_noise.sum()) / max(float(misfit.counts.sum()), 1.0))


def measure_mean_pattern(sums: DetectorSums) -> tuple[float, float]:
    """Misfit of the sum of all patterns: in units of its counting noise, and what is beyond that per count."""
    lit = sums.predicted > LIT
    error = (np.sqrt(sums.predicted[lit]) - np.sqrt(sums.measured[lit])) ** 2
    total, noise = float(error.sum()), float(expected_residual(sums.predicted[lit]).sum())
    return total / max(noise, 1e-12), (total - noise) / max(float(sums.measured.sum()), 1.0)


def estimate_background(
    sums: DetectorSums, patterns: int, unscattered: NDArray[Any], good: NDArray[np.bool_]
) -> Background | None:
    """The incoherent light in the dark part of the patterns; None where there is none to speak of, or no one can tell.

    What an object scatters far from the beam is speckle, which changes from pattern to pattern by as much as its mean;
    what a detector, the air or the room adds does not. `unscattered` (N, N) is the pattern of the probe alone, which
    does not change either: pixels that it lights are left out. An object fitted to a background makes speckle of it, so
    that counts less prediction would find a third of it.
    """
    for dark_share in DARK_SHARES:
        dark = _find_dark_pixels(sums.measured, sums.predicted, patterns, unscattered, good, dark_share)
        if patterns < FEWEST_PATTERNS or dark.sum() < FEWEST_PIXELS:
            continue
        predicted = _measure_contrast(sums.predicted[dark], sums.predicted_squared[dark], patterns, counted=False)[1]
        found = _incoherent_in(sums.measured, sums.measured_squared, patterns, dark, good, min(1.0, predicted))
        if found is not None:
            return found
    return None


def measure_incoherent(
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
    patterns: int,
    unscattered: NDArray[Any],
    good: NDArray[np.bool_],
    coherent: float,
) -> Background | None:
    """`estimate_background` from counts alone: their sum and that of their squares, (N, N), over so many patterns.

    `coherent` is the contrast of the speckle that the probe's modes make.
    """
    for dark_share in DARK_SHARES:
        dark = _find_dark_pixels(total, total, patterns, unscattered, good, dark_share)
        if patterns < FEWEST_PATTERNS or dark.sum() < FEWEST_PIXELS:
            continue
        found = _incoherent_in(total, squares, patterns, dark, good, coherent)
        if found is not None:
            return found
    return None


def _incoherent_in(
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
    patterns: int,
    dark: NDArray[np.bool_],
    good: NDArray[np.bool_],
    coherent: float,
) -> Background | None:
    """The light in `dark` pixels that does not vary as speckle of contrast `coherent` does; None where most may."""
    mean, contrast, error = _measure_contrast(total[dark], squares[dark], patterns, counted=True)
    if not contrast + STANDARD_ERRORS * error < LOW_CONTRAST * coherent:
        return None
    per_pixel = float(mean * (1 - np.sqrt(max(contrast, 0.0) / coherent)))
    share = per_pixel * int(good.sum()) * patterns / max(float(total.sum()), 1.0)
    return Background(per_pixel, share) if share > IGNORED_BACKGROUND else None


def _find_dark_pixels(
    measured: NDArray[np.float64],
    predicted: NDArray[np.float64],
    patterns: int,
    unscattered: NDArray[Any],
    good: NDArray[np.bool_],
    share: float,
) -> NDArray[np.bool_]:
    """The `share` of the good pixels of which least light is predicted; no hot ones, and none that the probe lights."""
    dark = good & (predicted <= np.quantile(predicted[good], share))
    mean = measured / patterns
    typical = float(mean[dark].mean())
    return np.asarray(dark & (unscattered < 0.5 * typical) & (mean < ISOLATED * typical))


def _measure_contrast(
    total: NDArray[np.float64], squares: NDArray[np.float64], patterns: int, *, counted: bool
) -> tuple[float, float, float]:
    """Mean, contrast (variance over patterns / mean^2) and its standard error, pooled over pixels.

    `counted`: counting noise is taken out of the variance.
    """
    mean = total / patterns
    variance = (squares / patterns - mean**2) * (patterns / (patterns - 1))
    # The square of a mean of few counts is too large by the variance of that mean.
    square = float((mean**2 - variance / patterns).sum())
    if square <= 0:
        return float(mean.mean()), np.nan, np.nan
    error = float(np.sqrt(((2 * mean**2 + mean) / patterns).sum())) / square
    return float(mean.mean()), float((variance - mean * counted).sum()) / square, error


def find_bad_pixels(sums: DetectorSums) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Hot pixels, and dead ones (a beam stop, a gap): (N, N) each, true where the object cannot explain a pixel.

    Hot: far brighter than its neighbors and than predicted. Dead: hardly any counts where many are predicted. None
    where there are more than a detector has: then it is the object that is wrong, and masking would hide it.
    """
    measured, predicted = sums.measured, sums.predicted
    sigma = np.sqrt(predicted + 1)
    isolated = measured > ISOLATED * ndimage.median_filter(measured, NEIGHBORS)
    hot = isolated & (measured - predicted > np.maximum(10 * sigma, 0.2 * measured))
    dead = (measured < predicted / 10) & (measured < predicted - 6 * sigma)
    return hot & (hot.mean() <= MOST_HOT), dead & (dead.mean() <= MOST_DEAD)


def find_outlier_patterns(misfit: Residual) -> NDArray[np.int64]:
    """Indices of patterns that fit far worse than the others; none where they are more than a tenth of all."""
    ratio = misfit.noise_ratio_per_pattern
    excess = (misfit.lit_error - misfit.lit_noise) / max(float(misfit.counts.mean()), 1.0)
    deviation = float(np.median(np.abs(excess - np.median(excess))))
    least = max(OUTLIER_EXCESS, OUTLIER_DEVIATIONS * deviation)
    outliers = np.flatnonzero((ratio > OUTLIER_RATIO * np.median(ratio)) & (excess > least))
    return outliers if len(outliers) <= 0.1 * len(ratio) else outliers[:0]


def find_clipping(misfit: Residual) -> tuple[float, float]:
    """The largest count of all patterns, and the share of them that reach it: counting noise lets one do so, or two.

    The share is 0 where counts are so few that many may.
    """
    largest = float(misfit.brightest.max())
    return largest, float((misfit.brightest == largest).mean()) if largest >= FEWEST_CLIPPED else 0.0


def measure_bright_share(object: NDArray[Any], covered: NDArray[np.bool_]) -> float:
    """Share of the `covered` part (H, W) of an object (H, W) whose amplitude, smoothed, exceeds `BRIGHT`."""
    if not covered.any():
        return 0.0
    smooth = ndimage.uniform_filter(np.abs(object) ** 2, SMOOTHED)
    return float((smooth[covered] > BRIGHT**2).mean())
