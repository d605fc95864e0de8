"""Where a scan has put light on its object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import NUMPY, Arrays
from .geometry import Layout

COVERED = 0.1  # of the typical illumination: with less than that a pixel is not measured but extrapolated
BATCH = 256


def illumination(layout: Layout, probe: NDArray[Any], arrays: Arrays = NUMPY) -> NDArray[np.float32]:
    """Incident counts a canvas pixel, (H, W): the power of a probe (modes, N, N) summed over all positions."""
    canvas = arrays.put(np.zeros(layout.shape, dtype=np.float32))
    power = arrays.put((np.abs(probe) ** 2).sum(axis=0, dtype=np.float32))
    for start in range(0, len(layout.corners), BATCH):
        corners = layout.corners[start : start + BATCH]
        arrays.scatter(canvas, arrays.xp.broadcast_to(power, (len(corners), *power.shape)), corners)
    return arrays.get(canvas)


def illuminated_area(light: NDArray[np.float32], share: float = COVERED) -> NDArray[np.bool_]:
    """Where the illumination (H, W) is above `share` of what is typical: its mean, weighted by itself."""
    typical = float((light.astype(np.float64) ** 2).sum() / max(float(light.sum(dtype=np.float64)), 1e-12))
    return np.asarray(light > share * typical)
