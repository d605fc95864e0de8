"""Maps that say how far an object can be trusted: residual by position, uncertainty, coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .drawing import (
    INK,
    SIDE,
    Look,
    PixelSize,
    color_bar,
    colors_of,
    draw,
    extent,
    figure_of_image,
    largest_shown,
    scale_bar,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OUTLINE = '#29b6f6'


def residual_map(
    residuals: NDArray[np.float64],
    places: NDArray[np.float64],
    coverage: NDArray[np.bool_],
    *,
    pixel_size: PixelSize | None = None,
) -> Figure:
    """The residual of each pattern (n,) at its place, (n, 2) [row, column] on the canvas of `coverage` (H, W).

    The illuminated part of the canvas is gray.
    """
    rows, cols = window_of(coverage)
    look = Look('residual of the pattern', 'viridis', (float(residuals.min()), largest_shown(residuals)))
    shown = coverage[rows, cols]
    figure, axis = figure_of_image(shown.shape, pixel_size, title='misfit at the scan positions')
    draw(axis, np.where(shown, 1.0, 0.0), Look('', 'Greys', (0.0, 6.0)), pixel_size)
    _, width = extent(shown.shape, pixel_size, SIDE)
    inches = width / shown.shape[1] * _spacing(places)
    drawn = axis.scatter(
        places[:, 1] - cols.start,
        places[:, 0] - rows.start,
        s=float(np.clip(72 * inches, 2, 24)) ** 2,
        c=residuals,
        cmap=colors_of(look),
        vmin=look.limits[0],
        vmax=look.limits[1],
        linewidths=0,
    )
    color_bar(figure, drawn, [axis], look)
    scale_bar(axis, shown.shape, pixel_size)
    return figure


def uncertainty_map(
    deviation: NDArray[np.floating[Any]],
    coverage: NDArray[np.bool_],
    *,
    label: str = 'standard deviation',
    pixel_size: PixelSize | None = None,
) -> Figure:
    """A standard deviation (H, W), gray where unknown or where nothing illuminates, `coverage` outlined."""
    window = window_of(coverage)
    lit = coverage[window]
    values = np.where(lit, deviation[window], np.nan)
    look = Look(label, 'magma', (0.0, largest_shown(values)))
    figure, axis = figure_of_image(values.shape, pixel_size, title='uncertainty where the object is lit')
    color_bar(figure, draw(axis, values, look, pixel_size), [axis], look)
    _outline(axis, lit)
    scale_bar(axis, values.shape, pixel_size)
    return figure


def coverage_map(
    coverage: NDArray[np.bool_], places: NDArray[np.float64], *, pixel_size: PixelSize | None = None
) -> Figure:
    """Where a canvas (H, W) is lit, gray where it is not, and the places (n, 2) [row, column] of the patterns."""
    title = 'where light has fallen; dots: scan positions'
    figure, axis = figure_of_image(coverage.shape, pixel_size, title=title, bar=False)
    draw(axis, np.where(coverage, 1.0, np.nan), Look('', 'Blues', (0.0, 4.0)), pixel_size)
    _outline(axis, coverage)
    _, width = extent(coverage.shape, pixel_size, SIDE)
    size = float(np.clip(36 * width / coverage.shape[1] * _spacing(places), 0.5, 4))
    axis.scatter(places[:, 1], places[:, 0], s=size**2, c=INK, linewidths=0)
    scale_bar(axis, coverage.shape, pixel_size)
    return figure


def window_of(coverage: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest window that holds all that is true; everything where nothing is."""
    if not coverage.any():
        return slice(0, coverage.shape[0]), slice(0, coverage.shape[1])
    rows, cols = (np.flatnonzero(coverage.any(axis=1 - axis)) for axis in (0, 1))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def _outline(axis: Axes, mask: NDArray[np.bool_]) -> None:
    """The rim of a mask, drawn around its pixels."""
    wide = np.pad(mask, 1).astype(float)
    rows, cols = (np.arange(-1, size + 1) for size in mask.shape)
    axis.contour(cols, rows, wide, levels=[0.5], colors=_OUTLINE, linewidths=0.8)


def _spacing(places: NDArray[np.float64]) -> float:
    """About how far apart n places on a plane are."""
    height, width = np.ptp(places, axis=0) + 1e-9
    return float(np.sqrt(max(height * width, 1.0) / len(places)))
