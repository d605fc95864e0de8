"""An object of one canvas on another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

WHOLE = 1e-3  # pixels: a smaller shift is none, and the object is not interpolated


def place_on_canvas(
    object: NDArray[np.complex64], shift: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    """An object (H, W) on a canvas of `shape`, 1 where it has none, and where it has some.

    Pixel q of the canvas is pixel q + `shift` [row, column] of the object, interpolated by cubic splines.
    """
    whole = np.rint(shift).astype(np.int64)
    fraction = shift - whole
    if np.abs(fraction).max() > WHOLE:
        object = ndimage.shift(object, -fraction, order=3, mode='nearest')
    canvas, inside = np.ones(shape, dtype=np.complex64), np.zeros(shape, dtype=bool)
    begin = np.maximum(0, -whole)
    end = np.maximum(begin, np.minimum(shape, np.array(object.shape) - whole))
    there = tuple(slice(int(a), int(b)) for a, b in zip(begin, end, strict=True))
    canvas[there] = object[tuple(slice(int(a), int(b)) for a, b in zip(begin + whole, end + whole, strict=True))]
    inside[there] = True
    return canvas, inside
