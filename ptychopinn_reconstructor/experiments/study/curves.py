"""Plots of a study: metrics against each factor (mean and spread over the seeds), and images of the objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...io.drawing import (
    ColorScale,
    add_color_bar,
    draw_image,
    encode_figure,
    make_figure,
    scale_amplitude,
    scale_phase,
)
from ...physics.scoring.metrics import LEADING
from .grid import format_dose
from .table import Group, Row, group_by_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = {**LEADING, 'residual': 'normalized residual', 'cpu_seconds': 'CPU time of the reconstruction, s'}
NAMES = {
    'dose': 'dose (photons per pattern)',
    'overlap': 'overlap (%)',
    'train_patterns': 'training patterns, of another object',
    'gridsize': 'gridsize',
    'passes': 'passes of the engine',
    'model': '',
}
UNITS = {'dose': 'photons', 'overlap': '% overlap', 'train_patterns': 'training patterns', 'passes': 'passes'}
LOGARITHMIC = ('dose', 'train_patterns', 'passes')
FEWEST_PASSES = 3  # numbers of passes that make a curve and not a label
MOST_COLUMNS = 6  # pictures side by side
_SIDE = 1.5  # inches of a picture


def find_varied_factors(rows: Sequence[Row]) -> list[str]:
    """Names of the factors with several values, which become abscissas; 'model' where only the methods differ."""
    found = [
        name
        for name in NAMES
        if name != 'model' and _count_values(rows, name) >= (FEWEST_PASSES if name == 'passes' else 2)
    ]
    return found or ['model']


def _count_values(rows: Sequence[Row], name: str) -> int:
    """Largest number of distinct values of a factor within one kind of model."""
    values: dict[Any, set[Any]] = {}
    for row in rows:
        if row.get(name) is not None:
            values.setdefault(row['model'], set()).add(row[name])
    return max((len(found) for found in values.values()), default=0)


def label_curve(factors: Mapping[str, Any], along: str, rows: Sequence[Row]) -> str:
    """Legend label of a curve: the model and every factor that varies besides the abscissa `along`."""
    words = [str(factors['model'])]
    if len({row.get('backend') for row in rows} - {None}) > 1 and factors.get('backend'):
        words.append(str(factors['backend']))
    for name in ('dose', 'overlap', 'gridsize', 'train_patterns'):
        if name != along and _count_values(rows, name) > 1 and factors.get(name) is not None:
            words.append(_format_with_unit(name, factors[name]))
    if along != 'passes' and (_count_values(rows, 'passes') > 1 or factors['model'] == 'engine'):
        passes = factors.get('passes')
        words.append(f'{"auto" if passes is None else passes} pass{"" if passes == 1 else "es"}')
    return ', '.join(words)


def _format_with_unit(name: str, value: float) -> str:
    return f'gridsize {value:g}' if name == 'gridsize' else f'{_format_tick(name, value)} {UNITS[name]}'


def _format_tick(name: str, value: float) -> str:
    return format_dose(value) if name == 'dose' else f'{value:g}'


@dataclass(frozen=True)
class Curve:
    """Groups with one label in order of `x`; `level` is a group that does not depend on `x`."""

    label: str
    points: list[tuple[float, Group]]
    level: Group | None = None


def group_curves(rows: Sequence[Row], along: str) -> list[Curve]:
    """Curves against the factor `along`, in the order of the runs."""
    found: dict[str, Curve] = {}
    for group in group_by_seed(rows, list(FIGURES)):
        name = label_curve(group.factors, along, rows)
        x = group.factors.get(along) if along != 'model' else None
        old = found.get(name, Curve(name, []))
        if x is None:
            found[name] = Curve(name, old.points, group)
        else:
            found[name] = Curve(name, sorted([*old.points, (float(x), group)], key=lambda point: point[0]), old.level)
    return list(found.values())


def draw_curves(rows: Sequence[Row], along: str) -> bytes:
    """SVG plot of all metrics against a factor: mean, one standard deviation over the seeds, and each run as a dot."""
    found = group_curves(rows, along)
    figure = make_figure(11.0, 6.4 + 0.22 * math.ceil(len(found) / 3))
    axes = figure.subplots(2, 3).ravel()
    for axis, (key, title) in zip(axes, FIGURES.items(), strict=True):
        draw = _draw_levels if along == 'model' else _draw_lines
        draw(axis, found, key)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        if along == 'model':
            continue
        axis.set_xlabel(NAMES[along], fontsize=9)
        if along in LOGARITHMIC:
            axis.set_xscale('log')
        ticks = sorted({x for curve in found for x, _ in curve.points})
        axis.set_xticks(ticks, [_format_tick(along, x) for x in ticks], fontsize=8)
        axis.set_xticks([], minor=True)
    _mark_references(axes, found)
    if along != 'model':
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc='outside lower center', ncols=3, fontsize=9, frameon=False)
    return encode_figure(figure, 'svg')


def _mark_references(axes: Sequence[Axes], found: Sequence[Curve]) -> None:
    """Mark the amplitude ratio of 1, and use logarithmic axes where values span more than a factor of 10."""
    for axis, key in zip(axes, FIGURES, strict=True):
        if key == 'amplitude_ratio':
            axis.axhline(1.0, color='#888888', linewidth=0.8, linestyle=':')
        if key in ('residual', 'cpu_seconds'):
            groups = [group for curve in found for group in [*(g for _, g in curve.points), curve.level] if group]
            means = [value for group in groups if (value := group.mean(key)) > 0]
            if means and max(means) > 10 * min(means):
                axis.set_yscale('log')


def _draw_lines(axis: Axes, found: Sequence[Curve], key: str) -> None:
    for i, curve in enumerate(found):
        color = f'C{i % 10}'
        if curve.level is not None:
            axis.axhline(curve.level.mean(key), color=color, linestyle='--', linewidth=1.4, label=curve.label)
        points = [(x, group) for x, group in curve.points if group.count(key)]
        if not points:
            continue
        x = np.array([x for x, _ in points])
        mean, spread = (np.array([getattr(group, what)(key) for _, group in points]) for what in ('mean', 'spread'))
        shown = None if curve.level is not None else curve.label
        axis.plot(x, mean, color=color, marker='o', markersize=4, linewidth=1.6, label=shown)
        if spread.any():
            axis.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
            for at, group in points:
                axis.plot([at] * group.count(key), group.values[key], '.', color=color, markersize=3, alpha=0.6)


def _draw_levels(axis: Axes, found: Sequence[Curve], key: str) -> None:
    groups = [curve.level for curve in found if curve.level is not None]
    for i, group in enumerate(groups):
        axis.errorbar([i], [group.mean(key)], yerr=[group.spread(key)], fmt='o', color=f'C{i % 10}', capsize=4)
        axis.plot([i + 0.12] * group.count(key), group.values[key], '.', color=f'C{i % 10}', markersize=4, alpha=0.6)
    names = [curve.label.replace(', ', ',\n') for curve in found if curve.level is not None]
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_xlim(-0.6, len(names) - 0.4)


# objects

Object = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class AlignedObject:
    """Result and truth (h, w), complex and registered, with row label, abscissa and caption in the image grid."""

    label: str
    x: float | None
    result: Object
    truth: Object
    caption: str


def draw_objects(shown: Sequence[AlignedObject], along: str, kind: str) -> bytes:
    """PNG grid of phase or amplitude (`kind`): a row for each curve, a column for each value, the truth on top."""
    columns = _choose_columns(sorted({one.x for one in shown if one.x is not None})) or [None]
    labels = list(dict.fromkeys(one.label for one in shown))
    at = {(one.label, one.x): one for one in shown}
    figure = make_figure(_SIDE * len(columns) + 1.6, _SIDE * 1.12 * (len(labels) + 1) + 0.3)
    grid = figure.subplots(len(labels) + 1, len(columns), squeeze=False)
    scale = _color_scale(shown, kind)
    image = None
    for j, x in enumerate(columns):
        cells = [at.get((name, x)) or at.get((name, None)) for name in labels]
        first = next((cell for cell in cells if cell is not None), None)
        pictures = [None if first is None else first.truth, *(None if cell is None else cell.result for cell in cells)]
        for i, (axis, values) in enumerate(zip(grid[:, j], pictures, strict=True)):
            if values is not None:
                image = draw_image(axis, _select_part(values, kind), scale, None)
                axis.set_axis_on()  # its labels say which result it is
            axis.set(xticks=[], yticks=[])
            cell = cells[i - 1] if i else None
            axis.set_xlabel(cell.caption if cell is not None else '', fontsize=7, labelpad=2)
            if not j:
                name = labels[i - 1].replace(', ', ',\n') if i else 'truth'
                axis.set_ylabel(name, fontsize=8, rotation=0, ha='right', va='center')
        if x is not None:
            grid[0, j].set_title(_format_with_unit(along, x), fontsize=8)
    if image is not None:
        add_color_bar(figure, image, list(grid.ravel()), scale)
    return encode_figure(figure, 'png')


def _choose_columns(values: list[float]) -> list[float | None]:
    """At most MOST_COLUMNS evenly spaced values, including the first and the last."""
    if len(values) <= MOST_COLUMNS:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, MOST_COLUMNS).round().astype(int)]


def _color_scale(shown: Sequence[AlignedObject], kind: str) -> ColorScale:
    """Color scale that spans all truths, shared by the results."""
    values = np.concatenate([_select_part(one.truth, kind).ravel() for one in shown])
    return scale_amplitude(values) if kind == 'amplitude' else scale_phase(values)


def _select_part(values: Object, kind: str) -> NDArray[Any]:
    return np.abs(values) if kind == 'amplitude' else np.angle(values)
