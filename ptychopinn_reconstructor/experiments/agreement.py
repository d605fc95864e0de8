"""How far backends agree: one model in two of them, and models that each has trained for itself."""

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
from .steps import Measured

STAGES = {'network': 'network alone', 'refined': 'refined'}
IN_DB = ('phase_psnr', 'amplitude_psnr')


@dataclass(frozen=True, eq=False)
class Cell:
    """The model that one backend trained, reconstructed by one: the network's own object, and the refined one."""

    trained: str
    reconstructed: str
    network: Measured
    refined: Measured | None = None

    def stages(self) -> dict[str, Measured]:
        """What there is, by the names of STAGES."""
        return {'network': self.network} | ({} if self.refined is None else {'refined': self.refined})

    def to_json(self) -> dict[str, Any]:
        """A cell as it stands in the report."""
        stages = {name: found.to_json() for name, found in self.stages().items()}
        return {'trained': self.trained, 'reconstructed': self.reconstructed, **dict.fromkeys(STAGES), **stages}


Cells = Mapping[str, Cell]  # by 'T_in_R'


def notes_of(cells: Cells) -> list[str]:
    """What the reconstructions had to say, each once; with the cells' names where not all of them say it."""
    said: dict[str, list[str]] = {}
    for name, cell in cells.items():
        for note in dict.fromkeys(note for found in cell.stages().values() for note in found.notes):
            said.setdefault(note, []).append(name)
    return [note if len(who) == len(cells) else f'{", ".join(who)}: {note}' for note, who in said.items()]


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
        stages = _by_stage(own, foreign, partial(_parity_of, goal=goal))
        models.append({'trained': trained, 'reconstructed': other, **stages})
    met = all(model[name]['met'] for model in models for name in STAGES if model[name] is not None)
    return {'goal': goal, 'met': met, 'models': models}


def independent(cells: Cells, names: Sequence[str], goal_db: float, margin: int) -> dict[str, Any]:
    """Models trained independently, each in its own backend: what the second's figures differ from the first's."""
    pairs: list[dict[str, Any]] = []
    for a, b in itertools.combinations(names, 2):
        compared = partial(_pair_of, goal_db=goal_db, margin=margin)
        pairs.append({'backends': [a, b], **_by_stage(cells[f'{a}_in_{a}'], cells[f'{b}_in_{b}'], compared)})
    said = [pair[name]['met'] for pair in pairs for name in STAGES if pair[name] is not None]
    return {'goal_db': goal_db, 'met': None if None in said else all(said), 'pairs': pairs}


def _by_stage(one: Cell, other: Cell, compared: Callable[[Measured, Measured], Any]) -> dict[str, Any]:
    """What `compared` says of each stage that both have; None for the others."""
    a, b = one.stages(), other.stages()
    return {name: compared(a[name], b[name]) if name in a and name in b else None for name in STAGES}


def _parity_of(own: Measured, other: Measured, goal: float) -> dict[str, Any]:
    difference = relative_difference(own.object.object, other.object.object)
    a, b = own.metrics['residual'], other.metrics['residual']
    return {'object_difference': difference, 'residual_difference': abs(b - a) / a, 'met': difference <= goal}


def _pair_of(a: Measured, b: Measured, goal_db: float, margin: int) -> dict[str, Any]:
    figures: dict[str, float] = {'residual': b.metrics['residual'] - a.metrics['residual']}
    met = None
    if a.image is not None and b.image is not None:
        one, two = a.image.to_dict(), b.image.to_dict()
        figures |= {key: two[key] - one[key] for key in LEADING}
        met = all(abs(figures[key]) <= goal_db for key in IN_DB)
    between = agreement(a.object, b.object, margin)
    return {'figures': figures, 'agreement': None if between is None else between.to_dict(), 'met': met}


def agreement(a: ObjectFile, b: ObjectFile, margin: int) -> Comparison | None:
    """The second object with the first in the truth's place; None where they are too far apart to be registered."""
    try:
        return evaluate(replace(b, positions=a.positions), a, margin=margin)
    except InputError:
        return None
