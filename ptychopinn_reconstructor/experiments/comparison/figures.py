"""The figures of a comparison, each computed from the files that the commands have left."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...io import ObjectFile, read_object
from ...model_file.opening import open_model
from ...physics.scoring.metrics import Comparison
from ...reconstruction.evaluate import evaluate
from ...training.metrics_table import read_losses
from ..processes import Cost

FIGURES = ('phase_psnr', 'amplitude_psnr', 'frc_area', 'amplitude_ratio')  # those whose differences are told
IN_DB = ('phase_psnr', 'amplitude_psnr')


@dataclass(frozen=True, eq=False)
class Scored:
    """What one reconstruction left: its metrics.json, its object, and that object against the truth (or None)."""

    metrics: Mapping[str, Any]
    object: ObjectFile
    image: Comparison | None
    cost: Cost
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Cell:
    """The model that one backend trained, reconstructed by one: the network's own object, and the refined one."""

    trained: str
    reconstructed: str
    network: Scored
    refined: Scored | None = None

    def stage(self, name: str) -> Scored | None:
        """'network' or 'refined'."""
        return self.network if name == 'network' else self.refined


STAGES = ('network', 'refined')
Cells = Mapping[str, Cell]


def read_cell(folder: Path, cost: Cost, truth: ObjectFile | None, margin: int) -> Scored:
    """A reconstruction from its folder; an object that cannot be compared with the truth gets a note, no figures."""
    metrics = json.loads((folder / 'metrics.json').read_text())
    found = read_object(folder / 'product.h5')
    notes = tuple(metrics['notes'])
    if truth is None:
        return Scored(metrics, found, None, cost, notes)
    try:
        return Scored(metrics, found, evaluate(found, truth, margin=margin), cost, notes)
    except InputError as error:
        return Scored(metrics, found, None, cost, (*notes, f'No figures against the truth: {error}'))


def notes_of(cells: Cells) -> list[str]:
    """What the reconstructions had to say, each once; with the cells' names where not all of them say it."""
    said: dict[str, list[str]] = {}
    for name, cell in cells.items():
        for note in dict.fromkeys(note for stage in STAGES if (found := cell.stage(stage)) for note in found.notes):
            said.setdefault(note, []).append(name)
    return [note if len(who) == len(cells) else f'{", ".join(who)}: {note}' for note, who in said.items()]


def cell_values(cell: Cell) -> dict[str, Any]:
    """A cell as it stands in the report."""
    stages = {name: None if (found := cell.stage(name)) is None else _scored_values(found) for name in STAGES}
    return {'trained': cell.trained, 'reconstructed': cell.reconstructed, **stages}


def _scored_values(found: Scored) -> dict[str, Any]:
    return {
        **{key: found.metrics[key] for key in ('device', 'residual', 'stages')},
        'image': None if found.image is None else found.image.to_dict(),
        'process': asdict(found.cost),
    }


def training_values(folder: Path, name: str, cost: Cost) -> dict[str, Any]:
    """A training as it stands in the report, from its model and its table of epochs."""
    model = folder / name / 'model' / 'model.safetensors'
    manifest = open_model(model).manifest
    summary, history = manifest.training, loss_history(model.parent, manifest.training.losses)
    training, validation = [row[1] for row in history], [row[2] for row in history if row[2] is not None]
    return {
        'model': model.relative_to(folder).as_posix(),
        'device': summary.device,
        'parameters': manifest.architecture.parameters,
        'versions': dict(manifest.versions),
        'epochs': len(history),
        'patterns_seen': summary.patterns_seen,
        'fit_cpu_seconds': summary.cpu_seconds,
        'cpu_ms_per_pattern': 1e3 * summary.cpu_seconds / max(summary.patterns_seen, 1),
        'first_loss': training[0],
        'last_loss': training[-1],
        'best_loss': min(training),
        'last_val_loss': validation[-1] if validation else None,
        'best_val_loss': min(validation, default=None),
        'best_epoch': best_epoch(history, summary.monitor),
        'history': history,
        'process': asdict(cost),
    }


def best_epoch(history: Sequence[tuple[int, float, float | None]], monitor: str) -> int | None:
    """The epoch with the smallest monitored loss, whose weights the model has; None where that loss was not logged."""
    column = 2 if monitor == 'val_loss' else 1
    known = [(value, row[0]) for row in history if (value := row[column]) is not None]
    return min(known)[1] if known else None


def loss_history(folder: Path, losses: Sequence[Sequence[float]]) -> list[tuple[int, float, float | None]]:
    """Epoch, training loss and validation loss of each epoch, from metrics.csv, or without it from `losses`."""
    known: list[tuple[int, float, float | None]] = [*read_losses(folder)]
    return known or [(int(epoch), float(loss), None) for epoch, loss in losses]


def relative_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """max abs(a - b) / max abs(a) of two objects on one canvas (specs/checkpoint_format.md, C10).

    Raises InputError when their shapes differ.
    """
    if a.shape != b.shape:
        raise InputError(f'The objects have shapes {a.shape} and {b.shape}; only objects on one canvas compare.')
    return float(np.abs(a - b).max() / np.abs(a).max())


def parity(cells: Cells, names: Sequence[str], goal: float) -> dict[str, Any]:
    """One model in two backends: what a cell differs from the one where the model was trained."""
    models: list[dict[str, Any]] = []
    for trained, other in itertools.permutations(names, 2):
        own, foreign = cells[f'{trained}_in_{trained}'], cells[f'{trained}_in_{other}']
        stages = {name: _parity_of(own.stage(name), foreign.stage(name), goal) for name in STAGES}
        models.append({'trained': trained, 'reconstructed': other, **stages})
    met = all(model[name]['met'] for model in models for name in STAGES if model[name] is not None)
    return {'goal': goal, 'met': met, 'models': models}


def _parity_of(own: Scored | None, other: Scored | None, goal: float) -> dict[str, Any] | None:
    if own is None or other is None:
        return None
    difference = relative_difference(own.object.object, other.object.object)
    a, b = own.metrics['residual'], other.metrics['residual']
    return {'object_difference': difference, 'residual_difference': abs(b - a) / a, 'met': difference <= goal}


def independent(cells: Cells, names: Sequence[str], goal_db: float, margin: int) -> dict[str, Any]:
    """Models trained independently, each in its own backend: what the second's figures differ from the first's."""
    pairs: list[dict[str, Any]] = []
    for a, b in itertools.combinations(names, 2):
        first, second = cells[f'{a}_in_{a}'], cells[f'{b}_in_{b}']
        stages = {name: _pair_of(first.stage(name), second.stage(name), goal_db, margin) for name in STAGES}
        pairs.append({'backends': [a, b], **stages})
    said = [pair[name]['met'] for pair in pairs for name in STAGES if pair[name] is not None]
    return {'goal_db': goal_db, 'met': None if None in said else all(said), 'pairs': pairs}


def _pair_of(a: Scored | None, b: Scored | None, goal_db: float, margin: int) -> dict[str, Any] | None:
    if a is None or b is None:
        return None
    figures: dict[str, float] = {'residual': b.metrics['residual'] - a.metrics['residual']}
    met = None
    if a.image is not None and b.image is not None:
        one, two = a.image.to_dict(), b.image.to_dict()
        figures |= {key: two[key] - one[key] for key in FIGURES}
        met = all(math.fabs(figures[key]) <= goal_db for key in IN_DB)
    between = agreement(a.object, b.object, margin)
    return {'figures': figures, 'agreement': None if between is None else between.to_dict(), 'met': met}


def agreement(a: ObjectFile, b: ObjectFile, margin: int) -> Comparison | None:
    """The second object with the first in the truth's place; None where they are too far apart to be registered."""
    try:
        return evaluate(replace(b, positions=a.positions), a, margin=margin)
    except InputError:
        return None
