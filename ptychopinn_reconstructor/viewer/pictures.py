"""Pictures of objects that move and zoom together, with a line over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.events import RangesUpdate, Tap
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CrosshairTool,
    HoverTool,
    LinearColorMapper,
    Metric,
    Range1d,
    ScaleBar,
    Span,
)
from bokeh.palettes import Greys256, RdBu11, Viridis256, interp_palette
from bokeh.plotting import figure
from numpy.typing import NDArray

from ..display.png import compute_limits, shrink
from ..io.drawing import compute_upper_limit
from .placing import PlacedObject, Point

FRAME = 290  # pixels of the screen along a picture
MOST_PIXELS = 800  # of an object along a picture: of larger ones, what is in view is sent anew when it is zoomed
LINE_COLOR = '#ff8c42'
SEEN_FACTOR, SEEN_SHIFT = 0.01, 0.1  # of a result against the first, in pixels: less is not worth a word
PALETTES = {'amplitude': Greys256[::-1], 'phase': Viridis256}
LABELS = {'amplitude': 'amplitude', 'phase': 'phase (rad)'}
Values = Mapping[str, NDArray[Any]]


class Pictures:
    """Figures of objects (h, w) by their names and, last, of a difference; `moved` is called when the line has."""

    def __init__(
        self, shape: tuple[int, ...], size: tuple[float, float] | None, names: Sequence[str], moved: Callable[[], None]
    ) -> None:
        self.unit: Point = (1.0, 1.0) if size is None else (size[0] * 1e9, size[1] * 1e9)
        self.unit_name = 'px' if size is None else 'nm'
        self.shape, self.moved = shape, moved
        height, width = self._measure(shape)
        self.ranges = {'x_range': Range1d(0, width), 'y_range': Range1d(height, 0)}  # row 0 on top
        self.values: Values = {}
        self.ends: tuple[Point, Point] = ((shape[0] * 0.5, shape[1] * 0.1), (shape[0] * 0.5, shape[1] * 0.9))
        self._line = ColumnDataSource({'x': [], 'y': []})
        self._colors = LinearColorMapper(palette=Viridis256, low=0, high=1)
        self._difference_colors = LinearColorMapper(palette=interp_palette(RdBu11, 255), low=-1, high=1)
        self._sources = {name: ColumnDataSource() for name in [*names, '']}
        self._bars: list[ColorBar] = []
        self._cross = CrosshairTool(overlay=[Span(dimension=side, line_color='#888') for side in ('width', 'height')])
        self.figures = [self._make_figure(name, height / width) for name in names]
        self.figures.append(self._make_figure('', height / width))
        self.figures[0].on_event(RangesUpdate, lambda _: self._send() if max(self.shape) > MOST_PIXELS else None)
        self._place_line()

    def _measure(self, shape: tuple[int, ...]) -> Point:
        """Height and width of pixels of `shape` in the unit of the coordinates."""
        return shape[0] * self.unit[0], shape[1] * self.unit[1]

    def _fit(self, shape: tuple[int, ...]) -> None:
        """Show all of the objects where they have grown: those of a live run do."""
        if shape != self.shape:
            self.shape, (height, width) = shape, self._measure(shape)
            self.ranges['x_range'].update(start=0, end=width)
            self.ranges['y_range'].update(start=height, end=0)

    def _make_figure(self, name: str, aspect: float) -> Any:
        frame: dict[str, Any] = {
            'frame_width': round(FRAME / max(1, aspect)),
            'frame_height': round(FRAME * min(1, aspect)),
        }
        frame['styles'] = {
            'flex': 'none'
        }  # one that grew into the room beside it would show pixels that are not square
        shown = figure(
            title=name or ' ', tools='pan,wheel_zoom,box_zoom,reset', active_scroll='wheel_zoom', **self.ranges, **frame
        )
        colors = self._colors if name else self._difference_colors
        image = shown.image('image', 'x', 'y', 'dw', 'dh', source=self._sources[name], color_mapper=colors)
        shown.line('x', 'y', source=self._line, color=LINE_COLOR, line_width=2)
        shown.scatter('x', 'y', source=self._line, color=LINE_COLOR, size=7)
        where = [(side, f'${axis}{{0.0}} {self.unit_name}') for side, axis in (('row', 'y'), ('column', 'x'))]
        shown.add_tools(HoverTool(renderers=[image], tooltips=[*where, ('value', '@image{0.0000}')]), self._cross)
        shown.axis.visible, shown.grid.visible = False, False
        bar = ColorBar(color_mapper=colors, width=10, padding=4, title_standoff=4)
        self._bars.append(bar)
        shown.add_layout(bar, 'right')
        shown.add_layout(self._make_scale_bar())
        shown.toolbar.autohide, shown.toolbar.logo = True, None
        shown.on_event(Tap, lambda event: self._move_end(event.y, event.x))
        return shown

    def _make_scale_bar(self) -> ScaleBar:
        meters = {'base_unit': 'm', 'include': ['nm', 'µm', 'mm']}
        pixels = {
            'base_unit': 'px',
            'include': ['px'],
            'ticks': [one * ten for ten in (1, 10, 100, 1000) for one in (1, 2, 5)],
        }
        measure = Metric(**(pixels if self.unit_name == 'px' else meters))
        return ScaleBar(
            range=self.ranges['x_range'], unit=self.unit_name, dimensional=measure, location='bottom_left',
            background_fill_alpha=0.6, border_line_color=None, padding=4,
        )  # fmt: skip

    def draw(
        self, values: Values, difference: NDArray[Any], title: str, quantity: str, placed: Mapping[str, PlacedObject]
    ) -> None:
        """Draw objects on one color scale, that of the first, and their difference on another."""
        low, high = compute_limits(next(iter(values.values())))
        self._colors.update(palette=PALETTES[quantity], low=low, high=high)
        most = compute_upper_limit(np.abs(difference))
        self._difference_colors.update(low=-most, high=most)
        for bar in self._bars:
            bar.title = LABELS[quantity]
        for shown, (name, one) in zip(self.figures[:-1], placed.items(), strict=True):
            told = f'amplitude x {1 / one.factor:.3g}, moved by {one.shift:.2f} px'
            is_moved = abs(one.factor - 1) > SEEN_FACTOR or one.shift > SEEN_SHIFT
            shown.title.text = f'{name}  ({told})' if is_moved else name
        self.figures[-1].title.text = title
        self.values = values
        self._all = {**values, '': difference}
        self._fit(difference.shape)
        self._send()

    def _send(self) -> None:
        """Send what is in view."""
        for name, values in self._all.items():
            self._sources[name].data = self._cut(values)

    def _cut(self, values: NDArray[Any]) -> dict[str, list[Any]]:
        """The part in view, of at most MOST_PIXELS along a side, and where it lies."""
        spans = ((self.ranges['y_range'], self.unit[0]), (self.ranges['x_range'], self.unit[1]))
        sides = []
        for (span, unit), size in zip(spans, values.shape, strict=True):
            ends = sorted((span.start / unit, span.end / unit)) if max(self.shape) > MOST_PIXELS else (0, size)
            low = min(max(math.floor(ends[0]), 0), size - 1)
            sides.append(slice(low, min(max(math.ceil(ends[1]), low + 1), size)))
        part = shrink(values[tuple(sides)], MOST_PIXELS)
        step = -(-max(side.stop - side.start for side in sides) // MOST_PIXELS)
        height, width = (count * step * unit for count, unit in zip(part.shape, self.unit, strict=True))
        corner = [side.start * unit for side, unit in zip(sides, self.unit, strict=True)]
        return {'image': [part.astype(np.float32)], 'x': [corner[1]], 'y': [corner[0]], 'dw': [width], 'dh': [height]}

    def _move_end(self, y: float, x: float) -> None:
        """Move the nearer end of the line to a place."""
        to = (y / self.unit[0] - 0.5, x / self.unit[1] - 0.5)
        near, far = sorted(self.ends, key=lambda end: math.dist(end, to))
        self.ends = (to, far) if near == self.ends[0] else (far, to)
        self._place_line()
        self.moved()

    def _place_line(self) -> None:
        """The middle of pixel 0 lies half a pixel from the edge."""
        rows, columns = zip(*self.ends, strict=True)
        self._line.data = {
            'x': [(at + 0.5) * self.unit[1] for at in columns], 'y': [(at + 0.5) * self.unit[0] for at in rows],
        }  # fmt: skip
