"""The document of a viewer: pictures side by side, their difference, a line over them, and a correlation.

Coordinates are nanometers from the upper left corner, or pixels where their size is not known.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import Div, InlineStyleSheet, RadioButtonGroup, Select, Slider
from bokeh.themes import built_in_themes
from jinja2 import Template

from ..errors import InputError
from .curves import CorrelationCurve, LineCurves
from .pictures import Pictures
from .placing import Difference, place_objects
from .series import Series

LOOK_MILLISECONDS = 1000  # between two looks whether a result has changed
QUANTITIES = ('amplitude', 'phase')
WRAPPED = {'flex-wrap': 'wrap'}
READABLE = '.bk-input { color: #222; background-color: #fff; }'  # in the dark too, where Bokeh leaves both white


def fill_document(document: Document, series: Mapping[str, Series]) -> None:
    """Put a viewer of results by their names into the document of a visitor."""
    request = getattr(document.session_context, 'request', None)
    if request is not None and 'dark' in request.arguments:
        document.theme = built_in_themes['dark_minimal']
    document.title = f'{", ".join(series)}: ptychopinn show'
    document.template = Template(resources.files(__package__).joinpath('page.html').read_text('utf-8'))
    viewer = Viewer(series)
    document.add_root(viewer.layout)
    document.add_periodic_callback(viewer.look, LOOK_MILLISECONDS)


class Viewer:
    """What a visitor sees of results by their names, and what happens on a click."""

    def __init__(self, series: Mapping[str, Series]) -> None:
        self.series, names = series, [*series]
        self._known = {name: one.steps for name, one in series.items()}
        self.quantity = RadioButtonGroup(labels=[*QUANTITIES], active=1)
        style = {'width': 180, 'stylesheets': [InlineStyleSheet(css=READABLE)]}
        self.first = Select(title='difference: from', value=names[0], options=names, **style)
        self.second = Select(title='to', value=names[-1], options=names, **style)
        self.step = Slider(title='step', start=1, end=2, value=2, step=1, width=250, visible=False)
        self.status = Div(text='', visible=False)
        self.placed = place_objects({name: one.steps[-1] for name, one in series.items()})
        size = series[names[0]].steps[-1].pixel_size
        self.pictures = Pictures(self.placed[names[0]].object.shape, size, names, self._draw_line)
        self.lines, self.correlation = LineCurves(names, self.pictures.unit_name), CorrelationCurve(size)
        self._connect()
        self.layout = self._arrange()
        self._offer_steps()
        self._compare()

    def _connect(self) -> None:
        self.quantity.on_change('active', _without_change(self._draw))
        for choice in (self.first, self.second):
            choice.on_change('value', _without_change(self._compare))
        self.step.on_change('value', _without_change(self._place))

    def _arrange(self) -> Any:
        choices = row(self.quantity, self.first, self.second, self.step, styles=WRAPPED)
        pictures = row(*self.pictures.figures, styles=WRAPPED)
        curves = row(self.lines.figure, self.correlation.figure, styles=WRAPPED, sizing_mode='stretch_width')
        return column(choices, self.status, pictures, curves, sizing_mode='stretch_width')

    def look(self) -> None:
        """Take up what has been written since the last look; who looks at the newest step sees the new one."""
        for one in self.series.values():
            one.look()
        if all(one.steps is self._known[name] for name, one in self.series.items()):
            return
        newest = self.step.value == self.step.end
        self._known = {name: one.steps for name, one in self.series.items()}
        self._offer_steps()
        if newest and self.step.value != self.step.end:
            self.step.value = self.step.end  # which places them
        else:
            self._place()

    def _offer_steps(self) -> None:
        """Show the slider where there are several steps."""
        most = max(len(steps) for steps in self._known.values())
        self.step.update(end=max(most, 2), visible=most > 1)

    def _place(self) -> None:
        """Take the objects of the step that is chosen, or the last one of those that have fewer."""
        files = {name: steps[min(self.step.value, len(steps)) - 1] for name, steps in self._known.items()}
        try:
            self.placed = place_objects(files)
            self.status.visible = False
        except InputError as error:
            self.status.update(text=html.escape(str(error)), visible=True)
        self._compare()

    def _compare(self) -> None:
        """Compare the two objects that are chosen, and draw."""
        one, other = self.first.value, self.second.value
        self._difference = Difference.of(self.placed[one], self.placed[other])
        self.correlation.draw(self._difference.frc, f'{one}, {other}')
        self._draw()

    def _draw(self) -> None:
        quantity = QUANTITIES[self.quantity.active]
        values = {name: getattr(one, quantity) for name, one in self.placed.items()}
        title = f'{self.second.value} − {self.first.value}'
        self.pictures.draw(values, getattr(self._difference, quantity), title, quantity, self.placed)
        self._draw_line()

    def _draw_line(self) -> None:
        self.lines.draw(self.pictures.values, self.pictures.ends, self.pictures.unit, QUANTITIES[self.quantity.active])


def _without_change(call: Callable[[], None]) -> Callable[[str, Any, Any], None]:
    """`call` as Bokeh calls it, which looks at the names of arguments."""

    def on_change(attr: str, old: Any, new: Any) -> None:
        call()

    return on_change
