"""The phase ramp of an object, which an unknown tilt between beam and detector leaves in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PhaseRamp:
    """Slopes of the phase along rows and columns, in rad a pixel."""

    rows: float
    columns: float

    @classmethod
    def of(cls, object: NDArray[np.complexfloating]) -> PhaseRamp:
        """The mean slopes of an object (H, W), pixels weighted by their squared amplitude: nothing is unwrapped."""
        steps = (object[1:] * object[:-1].conj(), object[:, 1:] * object[:, :-1].conj())
        rows, columns = (float(np.angle(step.sum(dtype=np.complex128))) for step in steps)
        return cls(rows, columns)

    def remove_from(self, object: NDArray[np.complexfloating]) -> NDArray[np.complex64]:
        """A copy of the object (H, W) without this ramp, its middle as it was."""
        angles = (
            slope * (np.arange(size) - size // 2)
            for slope, size in zip((self.rows, self.columns), object.shape, strict=True)
        )
        row, column = (np.exp(-1j * angle) for angle in angles)
        return np.asarray(object * row[:, None] * column, dtype=np.complex64)

    def across(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """How far the phase rises over a picture of `shape` (H, W), in rad along rows and columns."""
        return self.rows * (shape[0] - 1), self.columns * (shape[1] - 1)
