"""Maps of the reliability of an object: residual by position, uncertainty, coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .drawing import (
    FIGURE_SIDE,
    TEXT_COLOR,
    ColorScale,
    PixelSize,
    add_color_bar,
    add_scale_bar,
    compute_extent,
    compute_upper_limit,
    draw_image,
    get_color_map,
    make_image_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OUTLINE = '#29b6f6'


def draw_residual_map(
    residuals: NDArray[np.float64],
    places: NDArray[np.float64],
    coverage: NDArray[np.bool_],
    *,
    pixel_size: PixelSize | None = None,
) -> Figure:
    """A figure of the residual of each pattern (n,) at its place, (n, 2) [row, column] on the canvas `coverage` (H, W).

    The illuminated part of the canvas is gray.
    """
    scale = ColorScale('residual of the pattern', 'viridis', (float(residuals.min()), compute_upper_limit(residuals)))
    figure, axis = make_image_figure(coverage.shape, pixel_size, title='misfit at the scan positions')
    draw_image(axis, np.where(coverage, 1.0, 0.0), ColorScale('', 'Greys', (0.0, 6.0)), pixel_size)
    _, width = compute_extent(coverage.shape, pixel_size, FIGURE_SIDE)
    inches = width / coverage.shape[1] * _estimate_spacing(places)
    drawn = axis.scatter(
        places[:, 1],
        places[:, 0],
        s=float(np.clip(72 * inches, 2, 24)) ** 2,
        c=residuals,
        cmap=get_color_map(scale),
        vmin=scale.limits[0],
        vmax=scale.limits[1],
        linewidths=0,
        clip_on=False,
    )
    add_color_bar(figure, drawn, [axis], scale)
    add_scale_bar(axis, coverage.shape, pixel_size)
    return figure


def draw_uncertainty_map(
    deviation: NDArray[np.floating[Any]],
    coverage: NDArray[np.bool_],
    *,
    label: str = 'standard deviation',
    pixel_size: PixelSize | None = None,
) -> Figure:
    """A figure of an uncertainty (H, W), gray where unknown or not illuminated, `coverage` outlined."""
    return _draw_lit_map(deviation, coverage, label, 'uncertainty where the object is lit', pixel_size)


def draw_change_map(
    change: NDArray[np.floating[Any]], coverage: NDArray[np.bool_], *, pixel_size: PixelSize | None = None
) -> Figure:
    """A figure of what a learned step has changed (H, W), gray where not illuminated, `coverage` outlined."""
    return _draw_lit_map(change, coverage, 'change of the transmission', 'added by the learned step', pixel_size)


def _draw_lit_map(
    image: NDArray[np.floating[Any]],
    coverage: NDArray[np.bool_],
    label: str,
    title: str,
    pixel_size: PixelSize | None,
) -> Figure:
    values = np.where(coverage, image, np.nan)
    scale = ColorScale(label, 'magma', (0.0, compute_upper_limit(values)))
    figure, axis = make_image_figure(values.shape, pixel_size, title=title)
    add_color_bar(figure, draw_image(axis, values, scale, pixel_size), [axis], scale)
    _draw_outline(axis, coverage)
    add_scale_bar(axis, values.shape, pixel_size)
    return figure


def draw_coverage_map(
    coverage: NDArray[np.bool_], places: NDArray[np.float64], *, pixel_size: PixelSize | None = None
) -> Figure:
    """A figure of the illuminated part of a canvas (H, W) with the places (n, 2) [row, column] of the patterns."""
    title = 'where light has fallen; dots: scan positions'
    figure, axis = make_image_figure(coverage.shape, pixel_size, title=title)  # as wide as those with a bar
    draw_image(axis, np.where(coverage, 1.0, np.nan), ColorScale('', 'Blues', (0.0, 4.0)), pixel_size)
    _draw_outline(axis, coverage)
    _, width = compute_extent(coverage.shape, pixel_size, FIGURE_SIDE)
    size = float(np.clip(36 * width / coverage.shape[1] * _estimate_spacing(places), 0.5, 4))
    axis.scatter(places[:, 1], places[:, 0], s=size**2, c=TEXT_COLOR, linewidths=0, clip_on=False)
    add_scale_bar(axis, coverage.shape, pixel_size)
    return figure


def _draw_outline(axis: Axes, mask: NDArray[np.bool_]) -> None:
    """Draw the outline of a mask around its pixels."""
    wide = np.pad(mask, 1).astype(float)
    rows, cols = (np.arange(-1, size + 1) for size in mask.shape)
    axis.contour(cols, rows, wide, levels=[0.5], colors=_OUTLINE, linewidths=0.8)


def _estimate_spacing(places: NDArray[np.float64]) -> float:
    """Typical distance of n neighboring places on a plane: the square root of the area of each."""
    height, width = np.ptp(places, axis=0) + 1e-9
    return float(np.sqrt(max(height * width, 1.0) / len(places)))
