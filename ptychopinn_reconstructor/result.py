"""Reconstruction: an object on its canvas with all that is needed to place, show and store it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOMINAL_PIXEL_SIZE = 1e-8  # meters; used, and said in the product's comments, when a scan is known in pixels only


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The result of a reconstruction, a refinement or a product file.

    Parameters
    ----------
    object
        (H, W) complex64.
    origin
        Array coordinates [row, column] in `object` of the scan position (0, 0): index = position + origin.
    probe
        (modes, N, N) complex64 in sqrt(counts).
    positions
        (n, 2) float64, [row, column] of the patch centers in object pixels, as in the scan.
    pixel_size
        (height, width) of an object pixel in meters; None where only pixels are known.
    losses
        (epoch, value) pairs that the host plots.
    """

    object: NDArray[np.complex64]
    origin: tuple[float, float]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    pixel_size: tuple[float, float] | None = None
    name: str = 'ptychopinn'
    comments: str = ''
    losses: tuple[tuple[int, float], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known_pixel_size(self) -> tuple[float, float] | None:
        """The pixel size, None also where a product says that its own is nominal."""
        size = self.pixel_size
        if size is None or 'nominal' not in self.comments:
            return size
        return None if np.allclose(size, NOMINAL_PIXEL_SIZE, rtol=1e-6, atol=0) else size
