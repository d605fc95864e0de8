"""Frames that are dark or mad, told from those where the object is opaque or clear by what overlaps with them.

Light that two spots share cannot be absorbed in the one and pass in the other: with s = sum of the lesser of two probe
intensities of unit power, T_j <= T_i + (1 - s) T, T being what passes a clear object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

DIM = 0.1  # of the median, and of what passes nearby: frames that are looked at
NEAR, NEARBY = 6, 16  # bright neighbors that are compared with; those that say what passes around there
CONTRADICTION = 1.15  # times what the neighbors can have
UNEVEN = 0.6  # spread of what passes around there, relative: an object of opaque and clear parts is not judged
FEWEST = 100.0  # counts of the median frame
CERTAIN = 3e4  # counts of the median frame with which an opaque object (amplitude .02) would still count something
BRIGHT = 3.0  # times the 90 % quantile of the frames' counts
BRIGHTER_THAN_PROBE, FAINTEST = 1.5, 1e-6  # share of the probe's counts in a frame
UNLIKE = 0.6  # cosine of a frame's amplitudes with those of the mean pattern
FEWEST_A_PIXEL = 1.0  # counts of a frame that is judged by its pattern
EVEN = 0.9  # cosine of a frame's amplitudes with a constant
MOST = 0.5  # share of the frames that may be at fault


def bright_frames(counts: NDArray[np.float64], incident: float = 0.0) -> NDArray[np.bool_]:
    """Frames (n,) far brighter than the others by their counts (n,): mad ones, or the few that meet a clear spot.

    Where the power of the probe, `incident` counts, can be that of the others, they are also brighter than it.
    """
    usual = float(np.quantile(counts, 0.9))
    clear = BRIGHTER_THAN_PROBE * incident if FAINTEST < usual / max(incident, 1e-30) < BRIGHTER_THAN_PROBE else 0.0
    return np.asarray(counts > max(BRIGHT * usual, clear))


def is_mad(frame: NDArray[np.float32], mean: NDArray[np.float64], good: NDArray[np.bool_]) -> bool:
    """Whether a bright frame (N, N) is unlike the mean pattern (N, N) on good pixels, or as even as that is not."""
    if frame[good].mean() < FEWEST_A_PIXEL:
        return False
    amplitude, expected = np.sqrt(frame[good], dtype=np.float64), np.sqrt(mean[good])
    even = np.ones_like(expected)
    evenness = _cosine(expected, even)
    return _cosine(amplitude, expected) < UNLIKE or _cosine(amplitude, even) > max(EVEN, (1 + evenness) / 2)


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(first @ second / max(float(np.sqrt((first @ first) * (second @ second))), 1e-12))


def dark_frames(
    counts: NDArray[np.float64], positions: NDArray[np.float64], probe: NDArray[Any] | None
) -> NDArray[np.bool_]:
    """Frames (n,) without the beam, of counts (n,) at positions (n, 2) under a probe (modes, N, N), pixels.

    A frame is dark where its bright neighbors could not have their counts if the object were opaque there, or where it
    has no count at all although a nearly opaque object would leave some.
    """
    typical = float(np.median(counts))
    dim = counts < DIM * typical
    if not dim.any() or dim.mean() > MOST or typical < FEWEST:
        return np.zeros(len(counts), bool)
    dark = np.asarray((counts == 0) & (typical > CERTAIN))
    bright = np.flatnonzero(~dim)
    if probe is None or len(bright) < NEAR:
        return dark
    return np.asarray(dark | dim & _contradicted(counts, positions, bright, np.flatnonzero(dim), probe))


def _contradicted(
    counts: NDArray[np.float64],
    positions: NDArray[np.float64],
    bright: NDArray[np.int64],
    dim: NDArray[np.int64],
    probe: NDArray[Any],
) -> NDArray[np.bool_]:
    intensity = (np.abs(probe) ** 2).sum(axis=0)
    intensity = intensity / intensity.sum()
    nearest = np.atleast_2d(cKDTree(positions[bright]).query(positions[dim], k=min(NEARBY, len(bright)))[1])
    found = np.zeros(len(counts), bool)
    for frame, near in zip(dim, bright[nearest], strict=True):
        low, passing, high = np.quantile(counts[near], (0.1, 0.75, 0.9))
        if high - low > UNEVEN * passing or counts[frame] > DIM * passing:
            continue
        near = near[:NEAR]
        offsets = positions[near] - positions[frame]
        shared = np.array([_shared_light(intensity, offset) for offset in offsets])
        found[frame] = counts[near].sum() > CONTRADICTION * (counts[frame] + (1 - shared) * passing).sum()
    return found


def _shared_light(intensity: NDArray[np.float64], offset: NDArray[np.float64]) -> float:
    """Sum of the lesser of an intensity (N, N) of unit power and the same shifted by `offset` pixels."""
    if np.abs(offset).max() >= len(intensity):
        return 0.0
    moved = ndimage.shift(intensity, np.rint(offset), order=0)
    return float(np.minimum(intensity, moved).sum())
