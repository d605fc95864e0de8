"""Objects of Ptychodus on one grid of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.object import Object


def same_grid(one: Object, other: Object) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """The part of two objects that both canvases hold, pixel by pixel; they must be on one grid of pixels."""
    ours, theirs = one.get_geometry(), other.get_geometry()
    parts = []
    for axis, pixel in (('y', 'pixel_height_m'), ('x', 'pixel_width_m')):
        assert np.isclose(getattr(ours, pixel), getattr(theirs, pixel), rtol=1e-9)
        sizes = [geometry.height_px if axis == 'y' else geometry.width_px for geometry in (ours, theirs)]
        centers = [getattr(geometry, f'center_{axis}_m') / getattr(ours, pixel) for geometry in (ours, theirs)]
        shift = (centers[1] - (sizes[1] - 1) / 2) - (centers[0] - (sizes[0] - 1) / 2)
        whole = round(shift)
        assert abs(shift - whole) < 1e-3, f'half a pixel off: {shift}'
        start, stop = max(0, whole), min(sizes[0], sizes[1] + whole)
        parts.append((slice(start, stop), slice(start - whole, stop - whole)))
    (rows, rows_of_other), (columns, columns_of_other) = parts
    return one.get_array()[0][rows, columns], other.get_array()[0][rows_of_other, columns_of_other]
