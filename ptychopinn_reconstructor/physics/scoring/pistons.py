"""The piston of each probe spot: what a scan without overlap leaves undetermined.

Diffraction patterns do not change when the object under one spot is multiplied by a phase factor. Where spots overlap
they tie each other's factor; where they do not, every spot has one of its own, and no method can know it. So that
methods are not scored by chance, these factors are removed against the truth before a result without overlap is scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Labels = NDArray[np.int64]


def spot_labels(positions: NDArray[np.float64], origin: tuple[float, float], area: tuple[slice, slice]) -> Labels:
    """For each pixel of a window, (h, w), the number of the probe spot whose center is nearest.

    `positions` (n, 2) are patch centers [row, column] in object pixels, array index = position + `origin`; `area` is
    the window of the array.
    """
    rows, cols = (np.arange(window.start, window.stop) for window in area)
    pixels = np.stack(np.meshgrid(rows, cols, indexing='ij'), axis=-1)
    _, nearest = cKDTree(np.asarray(positions) + np.asarray(origin)).query(pixels)
    return np.asarray(nearest, dtype=np.int64)


def remove_pistons(result: NDArray[Any], truth: NDArray[Any], labels: Labels) -> NDArray[np.complex128]:
    """`result` (h, w) with one phase factor removed from the pixels of each label: that of sum(result conj(truth)).

    This factor brings them closest to the truth. A label whose sum is zero is left as it is.
    """
    product = np.asarray(result * np.conj(truth), dtype=np.complex128).ravel()
    number = int(labels.max()) + 1
    sums = [np.bincount(labels.ravel(), part, number) for part in (product.real, product.imag)]
    pistons = np.angle(sums[0] + 1j * sums[1])
    return np.asarray(result * np.exp(-1j * pistons)[labels])
