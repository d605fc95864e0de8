"""Deciding whether diffraction values are counts or their square root (specs/data_contracts.md, D20 to D24)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..scan import Domain

DomainChoice = Literal['auto', 'counts', 'amplitude']

_SAMPLED_PATTERNS = 64  # patterns looked at
_WHOLE_SHARE = 0.99  # share of the values that must fit; the rest may be inpainted pixels
_TOLERANCE, _MAX_WHOLE = 1e-3, 1e4  # of an integer; above, float32 no longer resolves the steps of squares
_STEP_VALUES, _MIN_VALUES = 64, 200  # distinct values that give the step; values that must be small enough to judge
_NOISE_BAND = (0.7, 1.5)  # measured over expected noise variance; structure in the pattern raises it


def decide_domain(diffraction: NDArray[Any], choice: DomainChoice = 'auto') -> tuple[Domain, str]:
    """The measurement domain of (n, N, N) patterns and one sentence that says why.

    'auto' takes integers for counts, then looks for the steps of counting in the values and in their squares, then
    for counting noise: variance = mean in counts, 1/4 in amplitude.

    Raises ScanError when none of these decides, naming the setting to pass.
    """
    if choice not in ('auto', 'counts', 'amplitude'):
        raise ScanError(f"The measurement domain is {choice!r}; pass 'auto', 'counts' or 'amplitude'.")
    if choice != 'auto':
        return choice, f'Measurement domain: {choice}, as given.'
    if diffraction.dtype.kind in 'ui':
        return 'counts', f'Measurement domain: counts, because the patterns are integers ({diffraction.dtype}).'
    if diffraction.dtype.kind != 'f':
        raise ScanError(f'The diffraction patterns are of type {diffraction.dtype}; they must be real numbers.')
    step = max(1, -(-len(diffraction) // _SAMPLED_PATTERNS))
    sample = np.array(diffraction[::step], dtype=np.float64)  # a copy: the patterns stay as they are in the file
    sample[~np.isfinite(sample)] = 0.0
    decision = _decide_by_steps(sample) or _decide_by_noise(sample)
    if decision is None:
        raise ScanError(
            'Cannot tell whether the diffraction patterns are counts or amplitudes: neither the values nor their '
            'squares are whole numbers or show counting noise; pass measurement_domain=counts or amplitude.'
        )
    return decision


def _decide_by_steps(sample: NDArray[np.float64]) -> tuple[Domain, str] | None:
    values, repeats = np.unique(sample[sample > 0], return_counts=True)
    if not values.size:
        return 'counts', 'Measurement domain: counts, because every value looked at is zero.'
    if repeats[values == np.round(values)].sum() >= _WHOLE_SHARE * repeats.sum():
        return 'counts', 'Measurement domain: counts, because the values are whole numbers.'
    powers: tuple[tuple[int, Domain], ...] = ((1, 'counts'), (2, 'amplitude'))
    for power, domain in powers:
        unit = next((u for u in _propose_units(values**power, repeats) if _are_whole(values**power / u, repeats)), None)
        if unit is not None:
            what = 'values' if power == 1 else 'squares'
            scale = '' if unit == 1 else f' times {unit:.4g}: they carry a constant factor'
            return domain, f'Measurement domain: {domain}, because the {what} are whole numbers{scale}.'
    return None


def _propose_units(values: NDArray[np.float64], repeats: NDArray[np.int64]) -> Iterator[float]:
    """Candidates for the value of one count, from sorted values: 1, the step between repeated values, the smallest."""
    yield 1.0
    repeated = values[repeats > 1]
    if len(repeated) > 2:
        step = float(np.median(np.diff(repeated[:_STEP_VALUES])))
        near = repeated[repeated < 200.0 * step]
        number = np.round(near / step)
        if number.any():
            yield float(near @ number / (number @ number))
    if len(repeated):
        yield float(repeated[0])


def _are_whole(values: NDArray[np.float64], repeats: NDArray[np.int64]) -> bool:
    small = values < _MAX_WHOLE
    distance = np.abs(values[small] - np.round(values[small]))
    near = (distance < _TOLERANCE + 1e-6 * values[small]) & (values[small] > 0.5)
    weights = repeats[small]
    return bool(weights.sum() >= _MIN_VALUES and weights[near].sum() >= _WHOLE_SHARE * weights.sum())


def _decide_by_noise(sample: NDArray[np.float64]) -> tuple[Domain, str] | None:
    mean, deviation = _compute_local_statistics(sample)
    counts = _compute_noise_ratio(mean, deviation / np.sqrt(np.maximum(mean, 1e-9)), 3.0, 100.0)
    if counts is not None and _NOISE_BAND[0] <= counts <= _NOISE_BAND[1]:
        return 'counts', f'Measurement domain: counts, because their variance is {counts:.2f} times their mean.'
    amplitude = _compute_noise_ratio(mean, 2.0 * deviation, 1.7, 10.0)
    if amplitude is not None and _NOISE_BAND[0] <= amplitude <= _NOISE_BAND[1]:
        return (
            'amplitude',
            f'Measurement domain: amplitude, because their variance is {amplitude / 4:.2f}, close to 1/4.',
        )
    return None


def _compute_local_statistics(sample: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over 3 x 3 pixels, and a second difference along both axes of the standard deviation of white noise.

    Source: J. Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64, 300 (1996).
    """
    rows = sample[:, :-2] - 2.0 * sample[:, 1:-1] + sample[:, 2:]
    deviation = (rows[..., :-2] - 2.0 * rows[..., 1:-1] + rows[..., 2:]) / 6.0
    sums = sample[:, :-2] + sample[:, 1:-1] + sample[:, 2:]
    mean = (sums[..., :-2] + sums[..., 1:-1] + sums[..., 2:]) / 9.0
    return mean.ravel(), deviation.ravel()


def _compute_noise_ratio(
    mean: NDArray[np.float64], normalized: NDArray[np.float64], low: float, high: float
) -> float | None:
    """Variance of `normalized` (by the median, against structure) over the pixels with `low` < mean < `high`."""
    chosen = normalized[(mean > low) & (mean < high)]
    return float((1.4826 * np.median(np.abs(chosen))) ** 2) if chosen.size > 1000 else None
