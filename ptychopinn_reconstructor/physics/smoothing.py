"""Smoothing of object patches by a Gaussian that stays inside the patch (specs/settings_defined.md, S5)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def smoothing_matrix(n: int, sigma: float) -> NDArray[np.float32]:
    """G (n, n): a Gaussian of `sigma` pixels in each row, normalized to 1 over the pixels that are there."""
    pixels = np.arange(n)
    weights = np.exp(-((pixels[:, None] - pixels) ** 2) / (2.0 * sigma**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def smooth_patches(patches: NDArray[Any], sigma: float) -> NDArray[Any]:
    """G o G^T of patches (b, n, n); as they are where `sigma` is 0."""
    if not sigma:
        return patches
    matrix = smoothing_matrix(patches.shape[-1], sigma)
    return np.asarray(matrix @ patches @ matrix.T, dtype=patches.dtype)
