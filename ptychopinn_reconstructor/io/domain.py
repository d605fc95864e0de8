"""Deciding whether diffraction values are counts or their square root (specs/data_contracts.md, D20 to D24)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError, quote
from ..scan import Domain

DomainChoice = Literal['auto', 'counts', 'amplitude']

_NOISE_BAND = (0.7, 1.5)  # measured over expected noise variance; structure in the pattern raises it


def decide_domain(diffraction: NDArray[Any], choice: DomainChoice = 'auto') -> tuple[Domain, str]:
    """The measurement domain of (n, N, N) patterns and one sentence that says why.

    'auto' takes integers for counts, then looks for the steps of counting in the values and in their squares, then
    for counting noise: variance = mean in counts, 1/4 in amplitude.

    Raises ScanError when none of these decides, naming the setting to pass.
    """
    if choice not in ('auto', 'counts', 'amplitude'):
        raise ScanError(f"The measurement domain is {quote(choice)}; pass 'auto', 'counts' or 'amplitude'.")
    if choice != 'auto':
        return choice, f'Measurement domain: {choice}, as given.'
    if diffraction.dtype.kind in 'ui':
        return 'counts', f'Measurement domain: counts, because the patterns are integers ({diffraction.dtype}).'
    if diffraction.dtype.kind != 'f':
        raise ScanError(f'The diffraction patterns are of type {diffraction.dtype}; they must be real numbers.')
    from ..physics.inspection.counts import sample_patterns

    sample = sample_patterns(diffraction)
    decision = _decide_by_steps(sample) or _decide_by_noise(sample)
    if decision is None:
        raise ScanError(
            'Cannot tell whether the diffraction patterns are counts or amplitudes: neither the values nor their '
            'squares are whole numbers or show counting noise; pass measurement_domain=counts or amplitude.'
        )
    return decision


def _decide_by_steps(sample: NDArray[np.float64]) -> tuple[Domain, str] | None:
    if not (sample > 0).any():
        return 'counts', 'Measurement domain: counts, because every value looked at is zero.'
    from ..physics.inspection.counts import find_count_unit

    domains: tuple[Domain, ...] = ('counts', 'amplitude')
    for domain in domains:
        unit = find_count_unit(sample, domain)
        if unit is not None:
            what = 'values' if domain == 'counts' else 'squares'
            scale = '' if unit == 1 else f' times {unit:.4g}'
            return domain, f'Measurement domain: {domain}, because the {what} are whole numbers{scale}.'
    return None


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
