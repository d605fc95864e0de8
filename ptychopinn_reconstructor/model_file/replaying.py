"""Replaying the self-test of a model: the network built from the file alone must reproduce the recorded output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import VerificationError
from .opening import Model

Predict = Callable[[Model, NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Replay:
    """Outcome of a replayed self-test; differences in units of the amplitude range."""

    path: Path
    written_by: str
    patterns: int
    difference: float
    tolerance: float
    distance_to_fresh: float


def replay(path: Path, model: Model, predict: Predict) -> Replay:
    """Apply the network of an opened model to the recorded input; `path` names the file in the sentence.

    Raises VerificationError when the output differs from the recorded one by more than the tolerance.
    """
    test = model.self_test
    difference = test.difference(predict(model, test.counts.copy()))
    if not difference <= test.tolerance:
        raise VerificationError(
            f"The self-test of '{path}' differs from its recorded output by {difference:.2g} of the amplitude range, "
            f'more than its tolerance {test.tolerance:g}: its weights were altered, or this backend and device do not '
            'reproduce it; hand in another copy of the model, or run the self-test on the CPU.'
        )
    return Replay(
        path=path,
        written_by=model.manifest.backend,
        patterns=len(test.counts),
        difference=difference,
        tolerance=test.tolerance,
        distance_to_fresh=model.manifest.self_test.distance_to_fresh,
    )
