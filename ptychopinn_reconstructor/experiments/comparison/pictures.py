"""The pictures of a comparison: losses, objects, what they differ, and what one model differs in two backends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...io import ObjectFile
from ...io.curves import write_losses
from ...io.drawing import Look, Row, draw_rows, extent, figure_of, save
from ...io.images import difference_rows
from .figures import STAGES, Cell, Cells, Scored, agreement

if TYPE_CHECKING:
    from ...physics.scoring.metrics import Comparison

Picture = NDArray[Any]
_SIDE = 3.2  # inches of the longer side of a panel
_LOWEST = 1e-9  # of the logarithmic scale of relative differences


def write_pictures(
    folder: Path, report: Mapping[str, Any], cells: Cells, truth: ObjectFile | None, margin: int
) -> dict[str, str]:
    """Write all pictures that can be made; returns their file names by kind."""
    histories = {name: values['history'] for name, values in report['training'].items()}
    written = {'losses': write_losses(folder / 'losses.png', histories)}
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
    pairs = list(itertools.combinations(objects, 2))
    labels = ('difference of the amplitude', 'difference of the phase (rad)')
    rows = difference_rows([(objects[a], objects[b]) for a, b in pairs], labels, [f'{b} − {a}' for a, b in pairs])
    return _write(path, rows)


def _parity(path: Path, names: Sequence[str], cells: Cells) -> Path:
    """Relative difference of one model's object in two backends, on a logarithmic scale."""
    rows = []
    for stage in STAGES:
        found = {
            f"{trained}'s model: {other} − {trained}": _logarithm(own, foreign)
            for trained, other in itertools.permutations(names, 2)
            if (own := cells[f'{trained}_in_{trained}'].stage(stage)) is not None
            and (foreign := cells[f'{trained}_in_{other}'].stage(stage)) is not None
        }
        if found:
            high = max(float(values.max()) for values in found.values())
            label = f'log₁₀ (|a − b| / max |a|), {"network" if stage == "network" else "refined"}'
            look = Look(label, 'magma', (float(np.log10(_LOWEST)), max(high, -5.0)))
            rows.append(Row(look, [*found.values()], [*found]))
    return _write(path, rows)


def _logarithm(a: Scored, b: Scored) -> Picture:
    one, two = a.object.object, b.object.object
    return np.asarray(np.log10(np.maximum(np.abs(one - two) / np.abs(one).max(), _LOWEST)))


def _write(path: Path, rows: Sequence[Row]) -> Path:
    height, width = extent(rows[0].panels[0].shape, None, _SIDE)
    figure = figure_of(len(rows[0].panels) * width + 1.0, len(rows) * height + 0.4)
    draw_rows(figure, rows)
    return save(figure, path)
