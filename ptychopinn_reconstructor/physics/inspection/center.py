"""Whether the zero frequency of the patterns is where the probe's own far field says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

ALIKE = 0.8  # cosine of the mean amplitudes and the probe's where they lie on each other
CLOSER = 0.7  # times the distance (1 - cosine) that there is without moving
SMALLEST = 2  # pixels: less is also what the slope of an object's phase does
EXTENT = 1.5  # diameters of the probe
CORNER = 2  # pixels from the corner of the array that are the corner
SCATTER = 1  # pixels by which the quarters of a scan may differ

Shift = tuple[int, int]


def beam_offset(
    totals: NDArray[np.float64], good: NDArray[np.bool_], probe_counts: NDArray[Any], extent: float
) -> Shift:
    """By how many pixels [row, column] the patterns lie off center; (0, 0) where they do not, or it is not certain.

    `totals` (4, N, N) are sums of patterns in the four quarters of a scan, counts, which must agree, since an object
    whose phase has a slope moves patterns too, but not everywhere by as much: where the scan's `extent` is no more than
    1.5 times the probe's diameter, only a zero frequency in the corner of the array is found. `good` (N, N) are looked
    at; `probe_counts` (N, N) is the far field of the unscattered probe.
    """
    found, cosine, unmoved = _best_shift(totals.sum(axis=0), good, probe_counts)
    if max(map(abs, found)) < SMALLEST or cosine < ALIKE or 1 - cosine > CLOSER * (1 - unmoved):
        return 0, 0
    quarters = [_best_shift(total, good, probe_counts)[0] for total in totals]
    side = len(good)
    if corner := min(map(abs, found)) >= side // 2 - CORNER:  # Fourier transforms as they come: exactly half of N
        found = (-(side // 2), -(side // 2))
    elif extent < EXTENT:
        return 0, 0
    apart = (np.array(quarters) - found + side // 2) % side - side // 2
    return found if np.abs(apart).max() <= (CORNER if corner else SCATTER) else (0, 0)


def is_probe_off(offset: Shift, probe_counts: NDArray[Any]) -> bool:
    """Whether the probe's far field (N, N) is off center and not the patterns, which lie `offset` pixels from it."""
    half = len(probe_counts) // 2
    weight = probe_counts / probe_counts.sum()
    own = np.array([weight.sum(axis=1 - axis) @ (np.arange(len(weight)) - half) for axis in (0, 1)])
    return bool(np.hypot(*(own + offset)) < np.hypot(*own))


def _best_shift(
    total: NDArray[np.float64], good: NDArray[np.bool_], probe_counts: NDArray[Any]
) -> tuple[Shift, float, float]:
    """Shift of the best cosine between amplitudes on good pixels, that cosine, and the one without a shift."""
    measured = np.where(good, np.sqrt(total), 0.0)
    inner = _correlate(measured, np.sqrt(probe_counts))
    norm = np.sqrt(np.maximum(_correlate(good.astype(np.float64), probe_counts), 1e-9 * probe_counts.sum()))
    cosines = inner / (norm * max(float(np.sqrt((measured**2).sum())), 1e-12))
    side = len(good)
    row, column = np.unravel_index(int(cosines.argmax()), cosines.shape)
    shift = tuple(int((at + side // 2) % side - side // 2) for at in (row, column))
    return (shift[0], shift[1]), float(cosines[row, column]), float(cosines[0, 0])


def _correlate(image: NDArray[np.float64], kernel: NDArray[Any]) -> NDArray[np.float64]:
    """Sum over x of image(x) kernel(x - shift), periodically, by shift."""
    return np.asarray(fft.ifft2(fft.fft2(image) * np.conj(fft.fft2(kernel))).real)
