"""Error bars of a refined object: within which distance of it the true transmission lies, with 90 % probability.

| symbol | meaning                                                                         | unit             |
|--------|---------------------------------------------------------------------------------|------------------|
| O      | refined object                                                                  | transmission     |
| W      | illumination, sum abs(P_f)^2 over all positions: a quarter of the curvature of  | counts per pixel |
|        | the log-likelihood in a pixel                                                   |                  |
| s      | Newton's step that the patterns still ask for: what the prior holds back, noise | transmission     |
| c      | what the last pass has changed: how far the passes are from their end           | transmission     |
| f_j    | local quantities made of these, each an rms about the pixel (`local_quantities`)| transmission     |
| F_j    | their rms over the covered area                                                 | transmission     |
| p      | passes over the data that were made                                             | 1                |
| m      | misfit in units of counting noise, at least 1                                   | 1                |
| u      | radius of the error bar: P(abs(O - truth) <= u) = 0.9                           | transmission     |

log u = a + b_p log p + b_m log m + sum_j b_j log F_j + sum_j e_j log(f_j / F_j): the level of a scan, and how it is
spread over the canvas. The coefficients are those of the quantile regression (Koenker, Bassett, Econometrica 46, 33
(1978)) of the true errors of drawn scans, the constant then set so that 90 % of their pixels are covered
(`benchmarks/error_bars.py`). An error is what is left after global phase, phase ramp, shift and amplitude scale, which
no pattern tells, are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Quantity = Literal['step', 'change', 'detail']
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
COVERAGE = 0.9  # of the pixels
NEIGHBORHOOD = 2.0  # pixels, sigma of the Gaussian over which a local rms is taken
DIM = 0.01  # of the mean dose: fewer counts are taken as so many
SMALLEST = 1e-6  # of a quantity: an object that does not change at all is not known exactly
LEAST_CHANGE = 0.15  # of the step still asked for, the smallest drawn: a last pass that was taken back changes nothing
LEAST_SHARE = 0.05  # of a quantity's rms: where it is smaller it says no more


@dataclass(frozen=True)
class Law:
    """Coefficients of log u: `level` of the rms over the area, `spread` of the local share, by their names."""

    constant: float
    passes: float
    misfit: float
    level: Mapping[Quantity, float]
    spread: Mapping[Quantity, float]


LAW = Law(
    constant=1.323,
    passes=0.138,
    misfit=0.337,
    level={'step': 0.36, 'change': 0.493},
    spread={'detail': 0.279, 'step': 0.401},
)


def local_quantities(
    object: NDArray[np.complex64],
    light: NDArray[np.float32],
    step: NDArray[np.complex64],
    change: NDArray[np.complex64],
    dose: float,
) -> dict[Quantity, NDArray[np.float64]]:
    """What error bars follow from, each (H, W) in units of transmission.

    `object`, `step` and `change` are O, s W (the step before it is divided by W) and c, `light` is W, `dose` its mean
    where there is light. step, change, detail: rms of s, c, and the gradient of O about a pixel.
    """
    newton = step / np.maximum(light, DIM * dose)
    squares = {'step': _square(newton), 'change': _square(change), 'detail': _square_of_gradient(object)}
    return {name: _local_rms(squares[name]) for name in QUANTITIES}


def error_radius(
    quantities: Mapping[Quantity, NDArray[np.float64]],
    covered: NDArray[np.bool_],
    passes: int,
    noise_ratio: float,
    law: Law = LAW,
) -> NDArray[np.float32]:
    """The radius u (H, W) of the error bars, NaN where `covered` (H, W) is false; all NaN where nothing is covered.

    `noise_ratio` is the misfit in units of counting noise; below 1, where the object follows the noise, it counts as 1.
    """
    radius = np.full(covered.shape, np.nan, dtype=np.float32)
    if covered.any():
        terms = find_terms(quantities, covered, passes, noise_ratio)
        exponent = law.constant + law.passes * terms.passes + law.misfit * terms.misfit
        exponent += sum(law.level[name] * terms.level[name] for name in law.level)
        radius[covered] = np.exp(exponent + sum(law.spread[name] * terms.spread[name] for name in law.spread))
    return radius


@dataclass(frozen=True, eq=False)
class Terms:
    """What a law multiplies with its coefficients: log p, log m, log F_j and, in each covered pixel, log(f_j / F_j)."""

    passes: float
    misfit: float
    level: Mapping[Quantity, float]
    spread: Mapping[Quantity, NDArray[np.float64]]


def find_terms(
    quantities: Mapping[Quantity, NDArray[np.float64]], covered: NDArray[np.bool_], passes: int, noise_ratio: float
) -> Terms:
    """The terms of log u for a scan; arguments as in `error_radius`, at least one pixel covered."""
    values = {name: np.maximum(found[covered], SMALLEST) for name, found in quantities.items()}
    whole = {name: float(np.sqrt(np.mean(found**2))) for name, found in values.items()}
    spread = {name: np.log(np.maximum(found / whole[name], LEAST_SHARE)) for name, found in values.items()}
    whole['change'] = max(whole['change'], LEAST_CHANGE * whole['step'])
    level = {name: float(np.log(found)) for name, found in whole.items()}
    return Terms(float(np.log(max(passes, 1))), float(np.log(max(noise_ratio, 1.0))), level, spread)


def _square(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values.real.astype(np.float64) ** 2 + values.imag.astype(np.float64) ** 2)


def _local_rms(square: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = ndimage.gaussian_filter(square, NEIGHBORHOOD, mode='nearest')
    return np.asarray(np.sqrt(np.maximum(mean, 0.0)))


def _square_of_gradient(image: NDArray[Any]) -> NDArray[np.float64]:
    """Squared differences to the four neighbors, half of each: that of the gradient inside, half of it at the rim."""
    found = np.zeros(image.shape)
    for axis in (0, 1):
        half = _square(np.diff(image, axis=axis)) / 2
        there, here = [slice(None)] * 2, [slice(None)] * 2
        there[axis], here[axis] = slice(1, None), slice(None, -1)
        found[tuple(there)] += half
        found[tuple(here)] += half
    return found
