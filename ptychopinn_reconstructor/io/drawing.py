"""Building blocks of the pictures: figure, color scale, image, rows of images, color bar, scale bar, file.

Drawn with matplotlib's Figure alone: no pyplot, no global state, no display.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..display.png import PERCENTILES, Limits, compute_limits
from .atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

Area = tuple[slice, slice]
PixelSize = tuple[float, float]
Panel = NDArray[Any]

FIGURE_SIDE, DPI = 4.6, 160  # inches of the longer side of a picture, pixels per inch
NOTEBOOK_DPI = 80  # of the screen: a figure is shown at half of its pixels
PACKED = 1  # of 9, for PNG: what matplotlib packs them with takes two thirds of all the time
RIM, BAR_GAP, BAR_WIDTH, BAR_ROOM = 0.05, 0.08, 0.15, 0.85  # inches around a picture, and of its color bar
TEXT_COLOR, MISSING_COLOR = '#222222', '#c8c8c8'
CYCLIC_ABOVE = 0.8 * 2 * math.pi  # a phase range that nearly closes the circle needs a cyclic color map


@dataclass(frozen=True)
class ColorScale:
    """A color scale: label of the color bar, name of the color map, limits of the values."""

    label: str
    color_map: str
    limits: Limits
    cyclic: bool = False


def compute_upper_limit(values: NDArray[Any]) -> float:
    """Upper limit of a color scale that begins at zero: the percentile 99.5 of the finite values; 1 when none is."""
    finite = values[np.isfinite(values)]
    return (float(np.percentile(finite, PERCENTILES[1])) if finite.size else 0.0) or 1.0


def scale_amplitude(values: NDArray[Any]) -> ColorScale:
    """The color scale of an amplitude: gray."""
    return ColorScale('amplitude', 'gray', compute_limits(values))


def scale_phase(values: NDArray[Any], label: str = 'phase (rad)') -> ColorScale:
    """The color scale of a phase in radians; cyclic where the values fill most of the circle."""
    low, high = compute_limits(values)
    if high - low <= CYCLIC_ABOVE:
        return ColorScale(label, 'viridis', (low, high))
    return ColorScale(label, 'twilight', (-math.pi, math.pi), cyclic=True)


def scale_difference(label: str, panels: Sequence[Panel]) -> ColorScale:
    """The color scale of differences: white at zero, the same limits for all panels."""
    high = max(compute_upper_limit(np.abs(values)) for values in panels)
    return ColorScale(label, 'RdBu_r', (-high, high))


def compute_extent(shape: tuple[int, ...], pixel_size: PixelSize | None, side: float) -> tuple[float, float]:
    """Height and width in inches of a picture whose longer side is `side`, never thinner than a third of it."""
    height, width = np.array(shape) * (pixel_size or (1.0, 1.0))
    longest = max(height, width)
    return side * max(height / longest, 1 / 3), side * max(width / longest, 1 / 3)


def make_figure(width: float, height: float, layout: Literal['constrained'] | None = 'constrained') -> Figure:
    """An empty figure, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor='white')


def get_color_map(scale: ColorScale) -> Colormap:
    """The color map of a scale, gray for values that are not finite."""
    from matplotlib import colormaps

    return colormaps[scale.color_map].with_extremes(bad=MISSING_COLOR)


def draw_image(axis: Axes, values: NDArray[Any], scale: ColorScale, pixel_size: PixelSize | None) -> AxesImage:
    """Draw values (H, W) as an image, row 0 on top; values that are not finite are gray."""
    aspect = pixel_size[0] / pixel_size[1] if pixel_size else 1.0
    low, high = scale.limits
    image = axis.imshow(
        values, cmap=get_color_map(scale), vmin=low, vmax=high, aspect=aspect, interpolation='antialiased'
    )
    axis.set_axis_off()
    return image


@dataclass(frozen=True, eq=False)
class Row:
    """Images (H, W) side by side that share a color scale, with or without titles."""

    scale: ColorScale
    panels: Sequence[Panel]
    titles: Sequence[str] = ()


def draw_rows(figure: Figure | SubFigure, rows: Sequence[Row], pixel_size: PixelSize | None = None) -> NDArray[Any]:
    """Draw rows of images below each other, aligned to the right; returns the axes (rows, columns), some empty."""
    grid: NDArray[Any] = figure.subplots(len(rows), max(len(row.panels) for row in rows), squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        used = list(axes[-len(row.panels) :])
        for axis in axes[: len(axes) - len(used)]:
            axis.set_axis_off()
        images = [
            draw_image(axis, values, row.scale, pixel_size) for axis, values in zip(used, row.panels, strict=True)
        ]
        for axis, title in zip(used, row.titles, strict=False):
            axis.set_title(title, fontsize=10, color=TEXT_COLOR)
        add_color_bar(figure, images[-1], list(axes), row.scale)
    return grid


def make_image_figure(shape: tuple[int, ...], pixel_size: PixelSize | None, *, title: str = '') -> tuple[Figure, Axes]:
    """A figure with one axis for an image of `shape`, with room for a title and a color bar.

    Where they lie is known beforehand: to have it found out takes half of the time that a picture takes.
    """
    height, width = compute_extent(shape, pixel_size, FIGURE_SIDE)
    above, beside = (0.3 if title else 0.0) + RIM, BAR_ROOM + RIM
    figure = make_figure(width + beside + RIM, height + above + RIM, None)
    whole = figure.get_size_inches()
    axis = figure.add_axes((RIM / whole[0], RIM / whole[1], width / whole[0], height / whole[1]))
    if title:
        axis.set_title(title, fontsize=10, color=TEXT_COLOR)
    return figure, axis


def add_color_bar(figure: Figure | SubFigure, image: ScalarMappable, axes: list[Axes], scale: ColorScale) -> None:
    """Add a color bar beside axes that share a color scale."""
    if len(axes) == 1 and figure.get_layout_engine() is None:  # of make_image_figure
        place, inch = axes[0].get_position(), 1 / figure.bbox.width * DPI
        beside = (place.x1 + BAR_GAP * inch, place.y0, BAR_WIDTH * inch, place.height)
        bar = figure.colorbar(image, cax=figure.add_axes(beside))
    else:
        bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05, aspect=28)
    if scale.cyclic:
        bar.set_ticks([i * math.pi / 2 for i in range(-2, 3)], labels=['−π', '−π/2', '0', 'π/2', 'π'])
    bar.set_label(scale.label, fontsize=9, color=TEXT_COLOR)
    bar.ax.tick_params(labelsize=8, color=TEXT_COLOR, labelcolor=TEXT_COLOR, width=0.6)
    bar.outline.set_linewidth(0.6)


def choose_scale_bar(width_px: int, pixel_width_m: float | None) -> tuple[float, str]:
    """Length in pixels and label of a scale bar of 1, 2 or 5 times a power of ten, at most a quarter of the width."""
    unit = 1.0 if pixel_width_m is None else pixel_width_m
    longest = max(width_px * unit / 4, unit)
    power = 10.0 ** math.floor(math.log10(longest) + 1e-9)
    length = max(step for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)) * power
    if pixel_width_m is None:
        return length, f'{length:g} px'
    label = f'{length * 1e6:g} µm' if length >= 0.9999e-6 else f'{length * 1e9:g} nm'
    return length / unit, label


def add_scale_bar(axis: Axes, shape: tuple[int, ...], pixel_size: PixelSize | None) -> None:
    """Add a scale bar to the lower left corner of an image of `shape`."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    height, width = shape
    length, label = choose_scale_bar(width, pixel_size[1] if pixel_size else None)
    left, bottom = 0.04 * width, 0.95 * height
    outline = [withStroke(linewidth=2.2, foreground='black', alpha=0.75)]
    bar = Rectangle((left, bottom - 0.014 * height), length, 0.014 * height, color='white', lw=0, path_effects=outline)
    axis.add_patch(bar)
    axis.text(
        left + length / 2, bottom - 0.025 * height, label,
        color='white', fontsize=9, ha='center', va='bottom', path_effects=outline,
    )  # fmt: skip


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG; OutputError when that fails, and an earlier file stays."""
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format='png', metadata={'Software': None}, pil_kwargs={'compress_level': PACKED})
    return path


def encode_figure(figure: Figure, kind: str) -> bytes:
    """The bytes of a figure as 'png' or 'svg', cropped to its content, without a date: equal figures, equal bytes."""
    buffer = io.BytesIO()
    empty = {'Software': None} if kind == 'png' else {'Date': None, 'Creator': None}
    figure.savefig(buffer, format=kind, metadata=empty, bbox_inches='tight')
    return buffer.getvalue()


def show_in_notebooks(figure: Figure) -> Figure:
    """The figure, which a notebook now shows where a cell ends with it, as it shows those of pyplot."""

    def encode() -> tuple[bytes, dict[str, int]]:
        data = encode_figure(figure, 'png')
        width, _ = struct.unpack('>II', data[16:24])
        return data, {'width': round(width * NOTEBOOK_DPI / DPI)}

    vars(figure)['_repr_png_'] = encode
    return figure
