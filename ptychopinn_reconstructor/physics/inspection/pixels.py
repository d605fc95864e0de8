"""Pixels that count too much or nothing, seen in the sum over many frames and beside what the probe predicts.

For positions that cover the object evenly the mean pattern is the unscattered probe's intensity K convolved with the
object's mean power spectrum: no pixel can stand out of its neighbors more than one of K does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .neighbors import second_largest_neighbor

HOT = 4.0  # times the second largest neighbor; up to 3 in drawn scans of extended probes without faults
HOT_OF_PROBE = 2.0  # times the largest such ratio in the probe's own far field
SHARPEST = 15.0  # such ratio of probes that fill their window, for one that is not known
NEGLIGIBLE = 1e-4  # of the probe's largest intensity
FEWEST_NEIGHBORS, MOST_MASKED = 5, 1  # of a pixel that is judged: beside a gap the brighter ones may be masked
SIGMA = 6.0  # standard deviations of counting noise
FEW = 10.0  # counts
DARK = 0.01  # of what surrounds a pixel, or a line
EXPECTED = 100.0  # counts in all frames that a dark pixel's surroundings must have, and itself by the others
EXPECTED_IN_HOLES = 1000.0  # where the probe itself is dark, and only the object's scattering tells
RIM = 2.0  # pixels
DARKER = 0.01  # of what the other pixels say
OWN_DARKNESS = 0.1  # of its surroundings: the probe itself leaves the line dark
LARGEST_GAP = 4  # part of N that a gap or a beam stop may be wide
ROUNDS, TINY = 50, 1e-12
UNSCATTERED = 30.0  # times the scattered light, to begin with: what is not there is found sooner than what is


def hot_pixels(total: NDArray[np.float64], bad: NDArray[np.bool_], probe_counts: Any = None) -> NDArray[np.bool_]:
    """Pixels that are far brighter than their neighbors in the sum of frames `total` (N, N), counts; bool (N, N).

    `bad` (N, N) are not looked at; `probe_counts` (N, N) is the far field of the unscattered probe, where known.
    """
    good = np.where(bad, 0.0, total)
    near = ndimage.convolve((~bad).astype(np.int64), np.ones((3, 3), int), mode='constant') - 1
    masked = ndimage.convolve(bad.astype(np.int64), np.ones((3, 3), int), mode='constant')
    judged = ~bad & (near >= FEWEST_NEIGHBORS) & (masked <= MOST_MASKED)
    beside = second_largest_neighbor(good)
    factor = max(HOT, HOT_OF_PROBE * peak_ratio(probe_counts))
    least = good - SIGMA * np.sqrt(good)
    return np.asarray(judged & (least > factor * (beside + SIGMA * np.sqrt(beside) + FEW)))


def peak_ratio(probe_counts: Any) -> float:
    """The largest ratio of a pixel and its second largest neighbor in a far field (N, N); None: of any probe."""
    if probe_counts is None:
        return SHARPEST
    return float((probe_counts / (second_largest_neighbor(probe_counts) + NEGLIGIBLE * probe_counts.max())).max())


def dark_pixels(total: NDArray[np.float64], bad: NDArray[np.bool_], probe_counts: Any = None) -> NDArray[np.bool_]:
    """Pixels that count (nearly) nothing between bright ones in the sum of frames `total` (N, N), counts; bool (N, N).

    Dead pixels, gaps between modules, a beam stop. Not where the others say that the probe leaves the pixel dark, as in
    the hole of an annular one: `probe_counts` (N, N) is the far field of the unscattered probe; without it only whole
    rows and columns are found. `bad` (N, N) are taken for dark.
    """
    good = np.where(bad, 0.0, total)
    rows, columns = (_dark_lines(good, probe_counts, axis) for axis in (1, 0))
    around = _surroundings(good)
    dark = (good < DARK * around) & (around > EXPECTED) & ~bad
    if probe_counts is None:
        return np.asarray((rows[:, None] | columns) & ~bad)
    if not (dark.any() or rows.any() or columns.any()):
        return np.zeros_like(bad)
    expected = _predict(good, ~(bad | dark | rows[:, None] | columns), probe_counts)
    rows &= _is_darker(good.sum(axis=1), expected.sum(axis=1))
    columns &= _is_darker(good.sum(axis=0), expected.sum(axis=0))
    own = probe_counts < OWN_DARKNESS * _surroundings(probe_counts)
    hole = _empty_holes(dark & own & (good == 0), good, expected, probe_counts)
    dark &= _is_darker(good, expected) & ~own
    return np.asarray((dark | hole | rows[:, None] | columns) & ~bad)


def _empty_holes(
    empty: NDArray[np.bool_], total: NDArray[np.float64], expected: NDArray[np.float64], probe_counts: NDArray[Any]
) -> NDArray[np.bool_]:
    """Those `empty` pixels where the probe is dark that lie with one which the object's scattering must reach.

    Away from the rim of the probe's light, where the prediction is sharp, and if it reaches as far outside of it.
    """
    away = ndimage.distance_transform_edt(probe_counts < OWN_DARKNESS * probe_counts.max())
    outside = total[(away >= RIM) & (away < 2 * RIM) & ~empty]
    if not outside.size or np.median(outside) < EXPECTED:
        return np.zeros_like(empty)
    certain = empty & (expected > EXPECTED_IN_HOLES) & (away >= RIM)
    return np.asarray(ndimage.binary_propagation(certain, mask=empty))


def _is_darker(total: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((expected > EXPECTED) & (total < DARKER * expected))


def _predict(total: NDArray[np.float64], known: NDArray[np.bool_], probe_counts: NDArray[Any]) -> NDArray[np.float64]:
    """What the `known` (N, N) pixels say of all: the far field of the probe convolved with what fits it to `total`.

    Source: L. B. Lucy, An iterative technique for the rectification of observed distributions, Astronomical Journal 79,
    745 (1974), with weights.
    """
    kernel = fft.rfft2(fft.ifftshift(probe_counts / probe_counts.sum()))

    def convolve(image: NDArray[Any], factor: NDArray[Any]) -> NDArray[np.float64]:
        return np.maximum(fft.irfft2(fft.rfft2(image) * factor, image.shape), TINY)

    weight = convolve(known.astype(np.float64), np.conj(kernel))
    spread = convolve(known * total, np.conj(kernel)) / weight
    spread[0, 0] += UNSCATTERED * spread.sum()
    for _ in range(ROUNDS):
        spread *= convolve(known * total / convolve(spread, kernel), np.conj(kernel)) / weight
    return convolve(spread, kernel)


def _surroundings(image: NDArray[Any]) -> NDArray[Any]:
    """The lesser of the brightest on either side of each pixel, along its row or its column, whichever is larger."""
    width = image.shape[0] // LARGEST_GAP + 1
    return np.asarray(np.maximum(_closed(image, (1, width)), _closed(image, (width, 1))))


def _closed(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Grey closing that finds nothing beyond the border."""
    largest = ndimage.maximum_filter(image, size, mode='constant', cval=0.0)
    return np.asarray(ndimage.minimum_filter(largest, size, mode='constant', cval=0.0))


def _dark_lines(image: NDArray[np.float64], probe_counts: Any, axis: int) -> NDArray[np.bool_]:
    """Whole rows (axis 1) or columns (axis 0) that count nothing between others that do: (N,) bool."""
    sums, width = image.sum(axis=axis), image.shape[0] // LARGEST_GAP + 1
    around = _closed(sums[None], (1, width))[0]
    dark = (sums < DARK * around) & (around > EXPECTED)
    if probe_counts is None:
        return np.asarray(dark)
    own = probe_counts.sum(axis=axis)
    return np.asarray(dark & (own > OWN_DARKNESS * _closed(own[None], (1, width))[0]))
