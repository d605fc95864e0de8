"""Curves below the pictures: values along a line, and a Fourier ring correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, Span
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from numpy.typing import NDArray

from ..physics.scoring.frc import FRC, format_resolution
from .pictures import LABELS
from .placing import Point, sample_line

SIZE: dict[str, Any] = {'height': 260, 'sizing_mode': 'stretch_width', 'min_width': 300, 'max_width': 560}
THRESHOLDS = {'0.5': 0.5, '1/7': 1 / 7}


class LineCurves:
    """A figure of the values of objects by their names along a line, its length in `unit_name`."""

    def __init__(self, names: Sequence[str], unit_name: str) -> None:
        self.figure = figure(title='along the line', x_axis_label=unit_name, tools='pan,wheel_zoom,reset', **SIZE)
        self.sources = {name: ColumnDataSource({'x': [], 'y': []}) for name in names}
        for number, (name, source) in enumerate(self.sources.items()):
            color = Category10_10[number % 10]
            self.figure.line('x', 'y', source=source, color=color, line_width=1.6, legend_label=name)
        legend = self.figure.legend[0]
        legend.update(orientation='horizontal', click_policy='hide', border_line_color=None, label_text_font_size='9pt')
        self.figure.add_layout(legend, 'above')
        self.figure.toolbar.autohide, self.figure.toolbar.logo = True, None

    def draw(self, values: Mapping[str, NDArray[Any]], ends: tuple[Point, Point], unit: Point, quantity: str) -> None:
        """Draw the values (h, w) between two ends in pixels, a pixel as long as `unit`."""
        self.figure.yaxis.axis_label = LABELS[quantity]
        length = math.hypot(*((b - a) * size for a, b, size in zip(*ends, unit, strict=True)))
        for name, image in values.items():
            distance, line = sample_line(image, *ends)
            self.sources[name].data = {'x': distance * (length / (distance[-1] or 1.0)), 'y': line}


class CorrelationCurve:
    """A figure of the Fourier ring correlation of two objects, with pixels of `size` in meters."""

    def __init__(self, size: tuple[float, float] | None) -> None:
        self.size = size
        self.figure = figure(
            title=' ', x_axis_label='spatial frequency (cycles / pixel)', y_axis_label='correlation',
            x_range=(0, 0.5), y_range=(-0.1, 1.02), tools='pan,wheel_zoom,reset', **SIZE,
        )  # fmt: skip
        self.source = ColumnDataSource({'frequency': [], 'correlation': [], 'half_bit': []})
        self.figure.line('frequency', 'correlation', source=self.source, line_width=1.6, color=Category10_10[0])
        self.figure.line('frequency', 'half_bit', source=self.source, color='#888', legend_label='half-bit')
        for level, dash in zip(THRESHOLDS.values(), ('dashed', 'dotted'), strict=True):
            self.figure.add_layout(Span(location=level, dimension='width', line_color='#888', line_dash=dash))
        self.figure.legend.update(location='bottom_left', background_fill_alpha=0.6, label_text_font_size='9pt')
        self.figure.toolbar.autohide, self.figure.toolbar.logo = True, None

    def draw(self, correlation: FRC, names: str) -> None:
        """Draw the correlation of the objects of these names; its crossings are told above."""
        told = correlation.to_json(self.size)
        self.source.data = {key: np.asarray(values) for key, values in told['curve'].items()}
        found = {name: told['resolution'][key] for name, key in zip(THRESHOLDS, ('half', 'seventh'), strict=True)}
        said = ', '.join(f'{name}: {format_resolution(one)}' for name, one in found.items())
        self.figure.title.text = f'Fourier ring correlation of {names}\n{said}'
