"""Agreement of backends: one model applied in two of them, and models trained independently in each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io import ObjectFile
from ..physics.scoring.metrics import LEADING, Comparison
from ..reconstruction.evaluate import evaluate
from .steps import ScoredResult

STAGES = {'network': 'network alone', 'refined': 'refined'}
IN_DB = ('phase_psnr', 'amplitude_psnr')


@dataclass(frozen=True, eq=False)
class Cell:
    """Results of a model trained with one backend and applied with another: before and after refinement."""

    trained: str
    reconstructed: str
    network: ScoredResult
    refined: ScoredResult | None = None

    def stages(self) -> dict[str, ScoredResult]:
        """Results by the names of STAGES."""
        return {'network': self.network} | ({} if self.refined is None else {'refined': self.refined})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, as the report holds them under `cells`."""
        stages = {name: found.to_json() for name, found in self.stages().items()}
        return {'trained': self.trained, 'reconstructed': self.reconstructed, **dict.fromkeys(STAGES), **stages}


Cells = Mapping[str, Cell]  # by 'T_in_R'


def collect_notes(cells: Cells) -> list[str]:
    """Notes of all reconstructions without repeats, prefixed by the cells' names where not all of them have it."""
    names_by_note: dict[str, list[str]] = {}
    for name, cell in cells.items():
        for note in dict.fromkeys(note for found in cell.stages().values() for note in found.notes):
            names_by_note.setdefault(note, []).append(name)
    return [
        note if len(reported_by) == len(cells) else f'{", ".join(reported_by)}: {note}'
        for note, reported_by in names_by_note.items()
    ]


def relative_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Relative maximum difference of two objects on one canvas, max abs(a - b) / max abs(a).

    Raises InputError when their shapes differ.
    """
    if a.shape != b.shape:
        raise InputError(f'The objects have shapes {a.shape} and {b.shape}; only objects on one canvas compare.')
    return float(np.abs(a - b).max() / np.abs(a).max())


def compare_parity(cells: Cells, names: Sequence[str], goal: float) -> dict[str, Any]:
    """Differences between backends that apply the same model, relative to the backend where it was trained."""
    models: list[dict[str, Any]] = []
    for trained, other in itertools.permutations(names, 2):
        own, foreign = cells[f'{trained}_in_{trained}'], cells[f'{trained}_in_{other}']
        stages = _compare_stages(own, foreign, partial(_compare_one_model, goal=goal))
        models.append({'trained': trained, 'reconstructed': other, **stages})
    met = all(model[name]['met'] for model in models for name in STAGES if model[name] is not None)
    return {'goal': goal, 'met': met, 'models': models}


def compare_independent(cells: Cells, names: Sequence[str], goal_db: float, margin: int) -> dict[str, Any]:
    """Differences of image quality between models trained independently, second backend less first."""
    pairs: list[dict[str, Any]] = []
    for a, b in itertools.combinations(names, 2):
        compare_pair = partial(_compare_two_models, goal_db=goal_db, margin=margin)
        pairs.append({'backends': [a, b], **_compare_stages(cells[f'{a}_in_{a}'], cells[f'{b}_in_{b}'], compare_pair)})
    names_by_note = [pair[name]['met'] for pair in pairs for name in STAGES if pair[name] is not None]
    return {'goal_db': goal_db, 'met': None if None in names_by_note else all(names_by_note), 'pairs': pairs}


def _compare_stages(
    one: Cell, other: Cell, compare_pair: Callable[[ScoredResult, ScoredResult], Any]
) -> dict[str, Any]:
    """Result of `compare_pair` for each stage that both cells have; None for the others."""
    a, b = one.stages(), other.stages()
    return {name: compare_pair(a[name], b[name]) if name in a and name in b else None for name in STAGES}


def _compare_one_model(own: ScoredResult, other: ScoredResult, goal: float) -> dict[str, Any]:
    difference = relative_difference(own.object.object, other.object.object)
    a, b = own.metrics['residual'], other.metrics['residual']
    return {'object_difference': difference, 'residual_difference': abs(b - a) / a, 'met': difference <= goal}


def _compare_two_models(a: ScoredResult, b: ScoredResult, goal_db: float, margin: int) -> dict[str, Any]:
    figures: dict[str, float] = {'residual': b.metrics['residual'] - a.metrics['residual']}
    met = None
    if a.image is not None and b.image is not None:
        one, two = a.image.to_dict(), b.image.to_dict()
        figures |= {key: two[key] - one[key] for key in LEADING}
        met = all(abs(figures[key]) <= goal_db for key in IN_DB)
    between = register_objects(a.object, b.object, margin)
    return {'figures': figures, 'agreement': None if between is None else between.to_dict(), 'met': met}


def register_objects(a: ObjectFile, b: ObjectFile, margin: int) -> Comparison | None:
    """Comparison of the second object with the first as reference; None where they cannot be registered."""
    try:
        return evaluate(replace(b, positions=a.positions), a, margin=margin)
    except InputError:
        return None
