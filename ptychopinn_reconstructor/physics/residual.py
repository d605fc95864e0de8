"""How well predicted patterns agree with the measured ones."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True, eq=False)
class Residual:
    """Misfit of predicted and measured patterns; sums over the good pixels of each, (n,).

    `error` sum (sqrt I_pred - sqrt I)^2, `counts` sum I, `deviation` sum abs(sqrt I_pred - sqrt I), `amplitude`
    sum sqrt I.
    """

    error: NDArray[np.float64]
    counts: NDArray[np.float64]
    deviation: NDArray[np.float64]
    amplitude: NDArray[np.float64]

    @property
    def per_pattern(self) -> NDArray[np.float64]:
        """Normalized residual of each pattern, (n,); one without a single count is normalized by one count."""
        return np.asarray(self.error / np.maximum(self.counts, 1.0))

    @property
    def overall(self) -> float:
        """Normalized residual of all patterns together."""
        return float(self.error.sum() / max(float(self.counts.sum()), 1.0))

    @property
    def r_factor(self) -> float:
        """Crystallographers' R: sum abs(sqrt I_pred - sqrt I) / sum sqrt I of all patterns together."""
        return float(self.deviation.sum() / max(float(self.amplitude.sum()), 1.0))

    def ordered(self, order: NDArray[np.int64]) -> Residual:
        """The same with pattern i at `order[i]`: from canonical order to that of the file."""
        found = Residual(*(np.empty_like(getattr(self, field.name)) for field in fields(self)))
        for field in fields(self):
            getattr(found, field.name)[order] = getattr(self, field.name)
        return found

    @classmethod
    def join(cls, parts: list[Residual]) -> Residual:
        """The residual of several batches as one, in their order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def residual(
    predicted_intensity: NDArray[Any], counts: NDArray[Any], good: NDArray[np.bool_] | None = None
) -> Residual:
    """Normalized residual sum (sqrt I_pred - sqrt I)^2 / sum I over the good pixels, per pattern and overall.

    Both arrays (n, N, N) in counts, `good` (N, N) True where a pixel counts; 0 for a perfect prediction, near
    1 / (4 counts per pixel) at the noise floor. With its reference object and probe the real star has 0.0112 (its
    README, from another program, says 0.0115; the square root would be 0.106). Raises InputError when shapes differ.
    """
    if predicted_intensity.shape != counts.shape or counts.ndim != 3:
        raise InputError(
            f'The predicted patterns have shape {predicted_intensity.shape}, the measured ones {counts.shape}; '
            'both must be (n, N, N).'
        )
    mask = np.ones(counts.shape[1:], dtype=bool) if good is None else good
    intensity = np.asarray(counts, dtype=np.float64)[:, mask]
    amplitude = np.sqrt(intensity)
    difference = np.sqrt(np.asarray(predicted_intensity, dtype=np.float64)[:, mask]) - amplitude
    return Residual(*(values.sum(axis=1) for values in (difference**2, intensity, np.abs(difference), amplitude)))
