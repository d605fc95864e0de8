"""The pictures of a comparison: losses, objects, what they differ, and what one model differs in two backends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...io import ObjectFile
from ...io.drawing import figure_of, save
from .figures import STAGES, Cell, Cells, Scored, agreement

if TYPE_CHECKING:
    from ...physics.scoring.metrics import Comparison

Picture = NDArray[Any]
_SIDE = 3.2  # inches of the longer side of a panel
_LOWEST = 1e-9  # of the logarithmic scale of relative differences


@dataclass(frozen=True, eq=False)
class Row:
    """Panels that share a color bar; limits are (low, high)."""

    panels: Sequence[tuple[str, Picture]]
    label: str
    colors: str
    limits: tuple[float, float]


def write_pictures(
    folder: Path, report: Mapping[str, Any], cells: Cells, truth: ObjectFile | None, margin: int
) -> dict[str, str]:
    """Write all pictures that can be made; returns their file names by kind."""
    written = {'losses': write_losses(folder / 'losses.png', report['training'])}
    own = {name: cells[f'{name}_in_{name}'] for name in report['backends']}
    for stage in STAGES:
        objects = _aligned(own, stage, truth, margin)
        if len(objects) > 1:
            written[stage] = _objects(folder / f'{stage}.png', objects, stage)
            written[f'{stage}_difference'] = _differences(folder / f'{stage}_difference.png', objects)
    written['parity'] = _parity(folder / 'parity.png', report['backends'], cells)
    return {kind: path.name for kind, path in written.items()}


def _aligned(own: Mapping[str, Cell], stage: str, truth: ObjectFile | None, margin: int) -> dict[str, Picture]:
    """Objects on the area of the scan, shift, ramp and global phase as in the first: the truth, or the first backend's.

    Those that could not be registered are left out.
    """
    found = {name: scored for name, cell in own.items() if (scored := cell.stage(stage)) is not None}
    if truth is not None:
        images = {name: scored.image for name, scored in found.items() if scored.image is not None}
        return _with_first('truth', images)
    reference, *others = found or ['']
    between = {name: agreement(found[reference].object, found[name].object, margin) for name in others}
    known = {name: image for name, image in between.items() if image is not None}
    return _with_first(reference, known)


def _with_first(name: str, images: Mapping[str, Comparison]) -> dict[str, Picture]:
    first = next((image.truth for image in images.values()), None)
    return {} if first is None else {name: first, **{key: image.result for key, image in images.items()}}


def _objects(path: Path, objects: Mapping[str, Picture], stage: str) -> Path:
    from ...io import write_comparison

    title = 'network alone' if stage == 'network' else 'after refinement'
    return write_comparison(path, [(name, values.astype('complex64')) for name, values in objects.items()], title=title)


def _differences(path: Path, objects: Mapping[str, Picture]) -> Path:
    """Every object less every one before it."""
    pairs = [(f'{b} − {a}', objects[a], objects[b]) for a, b in itertools.combinations(objects, 2)]
    amplitude = [(title, np.abs(b) - np.abs(a)) for title, a, b in pairs]
    phase = [('', np.angle(b * a.conj())) for _, a, b in pairs]
    return _write(path, [_symmetric(amplitude, 'amplitude'), _symmetric(phase, 'phase (rad)')])


def _symmetric(panels: Sequence[tuple[str, Picture]], label: str) -> Row:
    high = max(float(np.percentile(np.abs(values), 99.5)) for _, values in panels) or 1.0
    return Row(panels, f'difference of the {label}', 'RdBu_r', (-high, high))


def _parity(path: Path, names: Sequence[str], cells: Cells) -> Path:
    """Relative difference of one model's object in two backends, on a logarithmic scale."""
    pairs = list(itertools.permutations(names, 2))
    rows = []
    for stage in STAGES:
        found = [
            (f"{trained}'s model: {other} − {trained}", own, foreign)
            for trained, other in pairs
            if (own := cells[f'{trained}_in_{trained}'].stage(stage)) is not None
            and (foreign := cells[f'{trained}_in_{other}'].stage(stage)) is not None
        ]
        if found:
            panels = [(title, _logarithm(own, foreign)) for title, own, foreign in found]
            high = max(float(values.max()) for _, values in panels)
            label = f'log₁₀ (|a − b| / max |a|), {"network" if stage == "network" else "refined"}'
            rows.append(Row(panels, label, 'magma', (np.log10(_LOWEST), max(high, -5.0))))
    return _write(path, rows)


def _logarithm(a: Scored, b: Scored) -> Picture:
    one, two = a.object.object, b.object.object
    return np.asarray(np.log10(np.maximum(np.abs(one - two) / np.abs(one).max(), _LOWEST)))


def write_losses(path: Path, training: Mapping[str, Any]) -> Path:
    """Training loss (line) and validation loss (dashed) by epoch; logarithmic where all are positive.

    `training` holds for each name a `history` of (epoch, training loss, validation loss or None).
    """
    from matplotlib.ticker import LogLocator

    figure = figure_of(6.4, 4.0)
    axis = figure.subplots()
    lowest = np.inf
    for i, (name, values) in enumerate(training.items()):
        epochs, losses, held_out = np.array(values['history'], dtype=float).T
        look: dict[str, Any] = {'color': f'C{i}', 'marker': '.', 'linewidth': max(2.4 - 0.9 * i, 0.6)}
        axis.plot(epochs, losses, label=f'{name}, training', **look)
        if np.isfinite(held_out).any():
            axis.plot(epochs, held_out, label=f'{name}, validation', linestyle='--', **look)
        lowest = min(lowest, np.nanmin([losses, held_out]))
    if lowest > 0:
        axis.set_yscale('log')
        axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 4.0, 6.0)))
        axis.yaxis.set_major_formatter('{x:g}')
        axis.yaxis.set_minor_formatter('{x:g}')
    axis.set(xlabel='epoch', ylabel='loss')
    axis.grid(alpha=0.3, which='both')
    axis.legend(fontsize=8)
    return save(figure, path)


def _write(path: Path, rows: Sequence[Row]) -> Path:
    height, width = np.array(rows[0].panels[0][1].shape) / max(rows[0].panels[0][1].shape) * _SIDE
    columns = len(rows[0].panels)
    figure = figure_of(columns * max(width, 1.5) + 1.0, len(rows) * max(height, 1.5) + 0.4)
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        low, high = row.limits
        for axis, (title, values) in zip(axes, row.panels, strict=True):
            image = axis.imshow(values, cmap=row.colors, vmin=low, vmax=high, interpolation='nearest')
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
        figure.colorbar(image, ax=list(axes), pad=0.02, fraction=0.05, aspect=28).set_label(row.label, fontsize=9)
    return save(figure, path)
