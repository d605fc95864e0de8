"""Single values far above all that the same frame's neighbors and the same pixel's other frames allow: cosmic rays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .neighbors import neighbors_of

BESIDE = 3.0  # times the second largest neighbor in the frame, with the noise of both
BESIDE_OF_PROBE = 2.0  # times that in the probe's own far field
BEFORE = 12.0  # times the pixel's mean over the frames, scaled to the frame
SIGMA = 5.0  # standard deviations of counting noise
FEW_BESIDE, FEW_BEFORE = 8.0, 2.0  # counts
FAINTEST = 0.1  # share of the mean pattern to which the mean is scaled at least

Hits = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def single_hits(
    counts: NDArray[np.float32], mean: NDArray[np.float64], relative: NDArray[np.float64], sharpest: float
) -> Hits:
    """Frames, rows and columns (k,) of single hits in `counts` (b, N, N), and the median of their eight neighbors.

    `mean` (N, N) is the mean pattern of the scan; `relative` (b,) are the counts of each frame in units of its;
    `sharpest` is the ratio of a pixel and its second largest neighbor that the probe's far field has: that of a probe
    which fills its window has speckles of a single pixel.
    """
    scale = np.maximum(relative, FAINTEST).astype(np.float32)[:, None, None]
    allowed = np.float32(BEFORE) * (mean.astype(np.float32) * scale + np.float32(FEW_BEFORE))
    frames, rows, columns = np.nonzero(counts > allowed)
    neighbors = np.sort(neighbors_of(counts, frames, rows, columns), axis=1)
    value, beside = counts[frames, rows, columns], neighbors[:, -2]
    least = value - SIGMA * np.sqrt(value)
    hit = least > max(BESIDE, BESIDE_OF_PROBE * sharpest) * (beside + SIGMA * np.sqrt(beside) + FEW_BESIDE)
    hit &= least > allowed[frames, rows, columns]
    return frames[hit], rows[hit], columns[hit], np.median(neighbors[hit], axis=1).astype(np.float32)
