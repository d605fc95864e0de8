"""How densely a scan samples its object: the size of the probe, the distance of neighbors, the overlap of the two.

| symbol  | meaning                                                              | unit   |
|---------|----------------------------------------------------------------------|--------|
| D       | diameter of the circle that holds 90 % of the probe's energy          | pixels |
| s       | step: distance of a position to its four nearest, median of the scan  | pixels |
| overlap | 1 - s / D; below 0 the spots do not touch                            | 1      |
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .probes import energy_diameter

NEAREST = 4  # those of a raster


def scan_step(positions: NDArray[np.float64]) -> float:
    """s in pixels of positions (n, 2): the median over them of the mean distance to their four nearest others.

    Positions that are visited several times count once; 0 when there is only one.
    """
    places = np.unique(np.asarray(positions, dtype=np.float64), axis=0)
    count = min(NEAREST, len(places) - 1)
    if count < 1:
        return 0.0
    distance = np.asarray(cKDTree(places).query(places, k=count + 1)[0])
    return float(np.median(distance[:, 1:].mean(axis=1)))


def scan_overlap(positions: NDArray[np.float64], probe: NDArray[Any]) -> float:
    """1 - s / D of positions (n, 2) in pixels and a probe (modes, N, N)."""
    return 1 - scan_step(positions) / max(energy_diameter(probe), 1e-12)
