"""Where things lie: positions, corners, canvases, sub-pixel shifts.

| symbol | meaning                                            | axes / sign / unit                               |
|--------|----------------------------------------------------|--------------------------------------------------|
| c      | scan position: center of a patch                   | [row, col], object pixels, arbitrary origin      |
| q      | c less the smallest c, rounded to 1e-6 (*)         | [row, col], pixels, >= 0                         |
| r      | corner of a patch on the canvas, round(q)          | [row, col], whole pixels                         |
| f      | what rounding left, q - r                          | [row, col], pixels, in [-0.5, 0.5]               |
| N      | side of a diffraction pattern and of the probe     | pixels                                           |
| n      | side of the network's patch (its support), N/2     | pixels                                           |
| o      | canvas: array index = c + origin                   | complex, (H, W); a patch starts at c - (N-1)/2   |
| k      | spatial frequency, fftfreq                         | cycles per pixel; shift by +f: exp(-2 pi i k f)  |

The center of a patch of N pixels is at (N-1)/2 from its corner, so the canvas index of position c is
c - min(c) + (N-1)/2: that offset is the `origin` of a layout. (*) Where results are to lie on the pixel grid of a given
object, `layout` counts q from one of its pixels instead.
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
GRID_TOLERANCE = 1e-6  # pixels; what two origins on one pixel grid may differ by beyond whole numbers


@dataclass(frozen=True, eq=False)
class Layout:
    """Patches on a canvas: `corners` (n, 2) whole pixels, `fractions` (n, 2) in [-0.5, 0.5], `origin`, `shape`."""

    corners: NDArray[np.int64]
    fractions: NDArray[np.float64]
    origin: tuple[float, float]
    shape: tuple[int, int]

    def part(self, index: NDArray[np.int64]) -> Layout:
        """The patches at `index` alone, on the same canvas."""
        return Layout(self.corners[index], self.fractions[index], self.origin, self.shape)


def relative_positions(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions less their minimum, rounded to 1e-6 pixel; (n, 2), a constant added to all changes nothing."""
    absolute = np.asarray(positions, dtype=np.float64)
    relative: NDArray[np.float64] = np.round(absolute - absolute.min(axis=0), POSITION_DECIMALS)
    return relative


def canonical_order(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices that sort positions by (row, col, index), so that results do not depend on the order of a file."""
    q = relative_positions(positions)
    return np.lexsort((np.arange(len(q)), q[:, 1], q[:, 0])).astype(np.int64)


def layout(positions: NDArray[np.float64], n_pixels: int, object_origin: tuple[float, float] | None = None) -> Layout:
    """Corners, fractions, canvas origin and shape of patches of `n_pixels`, in the order of `positions`.

    The canvas begins at the smallest position. With `object_origin`, the array index [row, column] of position (0, 0)
    in an object, it begins at a pixel of that object instead: q = c + object_origin - (N-1)/2, and r is round(q) less
    the smallest. Raises ScanError when the canvas would be larger than 32768 pixels along one side.
    """
    half = (n_pixels - 1) / 2
    if object_origin is None:
        anchor = half - np.asarray(positions, dtype=np.float64).min(axis=0)
        q = relative_positions(positions)
    else:
        anchor = np.asarray(object_origin, dtype=np.float64)
        q = np.round(np.asarray(positions, dtype=np.float64) + anchor - half, POSITION_DECIMALS)
    whole = np.rint(q).astype(np.int64)
    low = whole.min(axis=0)
    corners = whole - low
    height, width = (int(size) for size in corners.max(axis=0) + n_pixels)
    if max(height, width) > MAX_CANVAS:
        raise ScanError(
            f'The object canvas would be {height} x {width} pixels; positions must be in object pixels and of one scan.'
        )
    origin = anchor - low
    return Layout(corners, q - whole, (float(origin[0]), float(origin[1])), (height, width))


def shift_ramp(fractions: NDArray[np.float64], n_pixels: int, *, centered: bool = False) -> NDArray[np.complex64]:
    """exp(-2 pi i k f): the factor on an FFT that shifts its image by +f; (..., 2) pixels to (..., n, n).

    The zero frequency is at [0, 0], or at [n//2, n//2] where `centered`.
    """
    k = fft.fftfreq(n_pixels)
    turns = (fft.fftshift(k) if centered else k) * fractions[..., None]
    # Less than half a turn, so that single precision, in which sine and cosine take a tenth of the time, is enough.
    angles = (2 * np.pi * (np.rint(turns) - turns)).astype(np.float32)
    factors = np.empty(angles.shape, dtype=np.complex64)
    factors.real, factors.imag = np.cos(angles), np.sin(angles)
    ramp: NDArray[np.complex64] = factors[..., 0, :, None] * factors[..., 1, None, :]
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
    size = patches.shape[-1]
    for patch, (row, col) in zip(patches, (corners + inset).tolist(), strict=True):
        window = canvas[row : row + size, col : col + size]
        window += patch


def place_on_canvas(
    values: NDArray[Any], origin: tuple[float, float], shape: tuple[int, int], object_origin: tuple[float, float]
) -> NDArray[Any]:
    """A result (H, W) pasted on the canvas of an object of the same pixel grid, 1 where the result has nothing.

    Array index = position + `origin` in the result, position + `object_origin` on the canvas of `shape`. The canvas
    that Ptychodus makes for a scan, ceil(extent) + N pixels about the middle of its positions, holds every result.

    Raises ScanError when the grids differ by a fraction of a pixel, or when the result reaches beyond the canvas (an
    object from elsewhere): it is then best kept on its own canvas.
    """
    offset = np.asarray(object_origin, dtype=np.float64) - np.asarray(origin, dtype=np.float64)
    start = np.rint(offset).astype(np.int64)
    if np.abs(offset - start).max() > GRID_TOLERANCE:
        raise ScanError(
            f'The result lies {offset[0]:.6f} rows and {offset[1]:.6f} columns from the object, no whole pixels; '
            'keep it on its own canvas.'
        )
    stop = start + values.shape
    if (start < 0).any() or (stop > shape).any():
        raise ScanError(
            f'The result covers rows {start[0]} to {stop[0]} and columns {start[1]} to {stop[1]} of an object of '
            f'{shape[0]} x {shape[1]} pixels; keep it on its own canvas.'
        )
    canvas = np.ones(shape, dtype=values.dtype)
    canvas[start[0] : stop[0], start[1] : stop[1]] = values
    return canvas


def scan_area(positions: NDArray[np.float64], origin: tuple[float, float], margin: int = 0) -> tuple[slice, slice]:
    """The canvas between the outermost patch centers, less `margin` pixels on each side."""
    index = np.asarray(positions) + np.asarray(origin)
    low = np.ceil(index.min(axis=0)).astype(int) + margin
    high = np.floor(index.max(axis=0)).astype(int) + 1 - margin
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
