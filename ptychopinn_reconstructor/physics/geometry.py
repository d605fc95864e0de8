"""Where things lie: positions, corners, canvases, sub-pixel shifts.

| symbol | meaning                                            | axes / sign / unit                               |
|--------|----------------------------------------------------|--------------------------------------------------|
| c      | scan position: center of a patch                   | [row, col], object pixels, arbitrary origin      |
| q      | c less the smallest c, rounded to 1e-6             | [row, col], pixels, >= 0                         |
| r      | corner of a patch on the canvas, round(q)          | [row, col], whole pixels                         |
| f      | what rounding left, q - r                          | [row, col], pixels, in [-0.5, 0.5]               |
| N      | side of a diffraction pattern and of the probe     | pixels                                           |
| n      | side of the network's patch (its support), N/2     | pixels                                           |
| o      | canvas: array index = c + origin                   | complex, (H, W); a patch starts at c - (N-1)/2   |
| k      | spatial frequency, fftfreq                         | cycles per pixel; shift by +f: exp(-2 pi i k f)  |

The center of a patch of N pixels is at (N-1)/2 from its corner, so the canvas index of position c is
c - min(c) + (N-1)/2: that offset is the `origin` of a layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..errors import ScanError
from ..scan import MAX_CANVAS

POSITION_DECIMALS = 6  # positions that agree to a millionth of a pixel are the same: no ties decided by rounding noise


@dataclass(frozen=True, eq=False)
class Layout:
    """Patches on a canvas: `corners` (n, 2) whole pixels, `fractions` (n, 2) in [-0.5, 0.5], `origin`, `shape`."""

    corners: NDArray[np.int64]
    fractions: NDArray[np.float64]
    origin: tuple[float, float]
    shape: tuple[int, int]


def relative_positions(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions less their minimum, rounded to 1e-6 pixel; (n, 2), a constant added to all changes nothing."""
    absolute = np.asarray(positions, dtype=np.float64)
    relative: NDArray[np.float64] = np.round(absolute - absolute.min(axis=0), POSITION_DECIMALS)
    return relative


def canonical_order(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices that sort positions by (row, col, index), so that results do not depend on the order of a file."""
    q = relative_positions(positions)
    return np.lexsort((np.arange(len(q)), q[:, 1], q[:, 0])).astype(np.int64)


def layout(positions: NDArray[np.float64], n_pixels: int) -> Layout:
    """Corners, fractions, canvas origin and shape of patches of `n_pixels`, in the order of `positions`.

    Raises ScanError when the canvas would be larger than 32768 pixels along one side.
    """
    q = relative_positions(positions)
    corners = np.rint(q).astype(np.int64)
    height, width = (int(size) for size in corners.max(axis=0) + n_pixels)
    if max(height, width) > MAX_CANVAS:
        raise ScanError(
            f'The object canvas would be {height} x {width} pixels; positions must be in object pixels and of one scan.'
        )
    low = np.asarray(positions, dtype=np.float64).min(axis=0)
    half = (n_pixels - 1) / 2
    return Layout(corners, q - corners, (half - float(low[0]), half - float(low[1])), (height, width))


def shift_ramp(fractions: NDArray[np.float64], n_pixels: int) -> NDArray[np.complex64]:
    """exp(-2 pi i k f): the factor on an FFT that shifts its image by +f; (..., 2) pixels to (..., n, n)."""
    k = fft.fftfreq(n_pixels)
    rows, cols = (np.exp(-2j * np.pi * k * fractions[..., axis, None]).astype(np.complex64) for axis in (0, 1))
    ramp: NDArray[np.complex64] = rows[..., :, None] * cols[..., None, :]
    return ramp


def fourier_shift(images: NDArray[Any], fractions: NDArray[np.float64]) -> NDArray[Any]:
    """Images (..., n, n) shifted by +f (..., 2) pixels, periodically, by the Fourier shift theorem."""
    return np.asarray(fft.ifft2(fft.fft2(images) * shift_ramp(fractions, images.shape[-1])))


def patch_slice(corner: NDArray[np.int64], size: int, inset: int = 0) -> tuple[slice, slice]:
    """The window of `size` pixels that begins `inset` pixels inside a patch's corner, as canvas slices."""
    row, col = int(corner[0]) + inset, int(corner[1]) + inset
    return slice(row, row + size), slice(col, col + size)


def gather_patches(canvas: NDArray[Any], corners: NDArray[np.int64], size: int, inset: int = 0) -> NDArray[Any]:
    """Windows of the canvas, (b, size, size); corners (b, 2)."""
    windows = np.lib.stride_tricks.sliding_window_view(canvas, (size, size))
    return np.asarray(windows[corners[:, 0] + inset, corners[:, 1] + inset])


def scatter_patches(canvas: NDArray[Any], patches: NDArray[Any], corners: NDArray[np.int64], inset: int = 0) -> None:
    """Add patches (b, n, n) to the canvas in place, each at its corner: the adjoint of `gather_patches`."""
    for patch, corner in zip(patches, corners, strict=True):
        canvas[patch_slice(corner, patch.shape[-1], inset)] += patch


def scan_area(positions: NDArray[np.float64], origin: tuple[float, float], margin: int = 0) -> tuple[slice, slice]:
    """The canvas between the outermost patch centers, less `margin` pixels on each side."""
    index = np.asarray(positions) + np.asarray(origin)
    low = np.ceil(index.min(axis=0)).astype(int) + margin
    high = np.floor(index.max(axis=0)).astype(int) + 1 - margin
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
