"""How well predicted patterns agree with the measured ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .counting_noise import expected_residual

LIT = 0.1  # counts; where less is predicted a count is an accident, and its misfit tells of the darkness alone


@dataclass(frozen=True, eq=False)
class DetectorSums:
    """Sums over patterns at each detector pixel, (N, N); zero on bad pixels.

    `measured` and `predicted` of I and I_pred, `measured_squared` and `predicted_squared` of their squares.
    """

    measured: NDArray[np.float64]
    predicted: NDArray[np.float64]
    measured_squared: NDArray[np.float64]
    predicted_squared: NDArray[np.float64]

    def __add__(self, other: DetectorSums) -> DetectorSums:
        """The sums over the patterns of both."""
        return DetectorSums(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Residual:
    """Misfit of predicted and measured patterns; sums over the good pixels of each, (n,).

    `error` sum (sqrt I_pred - sqrt I)^2, `counts` sum I, `deviation` sum abs(sqrt I_pred - sqrt I), `amplitude`
    sum sqrt I. Over the good pixels with I_pred > `LIT`: `lit_error` as `error`, and `lit_noise` what is expected of it
    from counting noise. `brightest` the largest I. `detector`: the sums over patterns, None where they are not kept.
    """

    error: NDArray[np.float64]
    counts: NDArray[np.float64]
    deviation: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    lit_error: NDArray[np.float64]
    lit_noise: NDArray[np.float64]
    brightest: NDArray[np.float64]
    detector: DetectorSums | None = None

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

    @property
    def noise_ratio(self) -> float:
        """Misfit in units of what counting noise causes: near 1, less what the object follows of the noise."""
        return float(self.lit_error.sum() / max(float(self.lit_noise.sum()), 1e-12))

    @property
    def noise_ratio_per_pattern(self) -> NDArray[np.float64]:
        """`noise_ratio` of each pattern, (n,); 1 where no light is predicted."""
        lit = self.lit_noise > 0
        return np.divide(self.lit_error, self.lit_noise, out=np.ones_like(self.lit_error), where=lit)

    def part(self, index: NDArray[Any]) -> Residual:
        """The residual of the patterns at `index`, or where it is true, alone."""
        return Residual(**{name: getattr(self, name)[index] for name in PER_PATTERN})

    def ordered(self, order: NDArray[np.int64]) -> Residual:
        """The same with pattern i at `order[i]`: from canonical order to that of the file."""
        sorted_back = {name: np.empty_like(getattr(self, name)) for name in PER_PATTERN}
        for name, values in sorted_back.items():
            values[order] = getattr(self, name)
        return Residual(**sorted_back, detector=self.detector)

    @classmethod
    def join(cls, parts: Iterable[Residual]) -> Residual:
        """The residual of several batches as one, in their order; sums over patterns are added up as they come."""
        batches, total = [], None
        for part in parts:
            batches.append([getattr(part, name) for name in PER_PATTERN])
            if part.detector is not None:
                total = part.detector if total is None else total + part.detector
        joined = zip(PER_PATTERN, map(np.concatenate, zip(*batches, strict=True)), strict=True)
        return cls(**dict(joined), detector=total)


PER_PATTERN = tuple(field.name for field in fields(Residual) if field.name != 'detector')


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
    mask = None if good is None or good.all() else good
    measured, predicted = (_flatten(values, mask) for values in (counts, predicted_intensity))
    detector = _sum_patterns(measured, predicted, mask, counts.shape[1:])
    lit, noise, amplitude = predicted > LIT, expected_residual(predicted), np.sqrt(measured)
    difference = np.sqrt(predicted)
    difference -= amplitude
    error = difference * difference
    np.abs(difference, out=difference)
    sums = [values.sum(axis=1) for values in (error, measured, difference, amplitude)]
    error *= lit
    noise *= lit
    found = (*sums, error.sum(axis=1), noise.sum(axis=1), measured.max(axis=1))
    named = zip(PER_PATTERN, (values.astype(np.float64) for values in found), strict=True)
    return Residual(**dict(named), detector=detector)


def _flatten(patterns: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """The good pixels of patterns (n, N, N), (n, pixels), in single precision; None: all of them."""
    values = patterns.reshape(len(patterns), -1) if mask is None else patterns[:, mask]
    return values.astype(np.float32, copy=False)


def _sum_patterns(
    measured: NDArray[np.float32],
    predicted: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    shape: tuple[int, ...],
) -> DetectorSums:
    """In double precision: a variance is the small difference of such sums."""
    sums, place = np.zeros((4, *shape)), ... if mask is None else mask
    for number, values in enumerate((measured, predicted)):
        exact = values.astype(np.float64)
        sums[number][place] = exact.sum(axis=0).reshape(sums[number][place].shape)
        exact *= exact
        sums[number + 2][place] = exact.sum(axis=0).reshape(sums[number][place].shape)
    return DetectorSums(*sums)
