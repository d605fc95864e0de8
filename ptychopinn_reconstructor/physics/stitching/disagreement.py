"""How far the patches that overlap in a pixel disagree about it: an uncertainty that costs no second pass.

| symbol | meaning                                                                    | axes, unit           |
|--------|----------------------------------------------------------------------------|----------------------|
| u      | contribution of a patch, w o shifted to the canvas grid (stitching.py)      | (b, n, n) complex    |
| w      | shifted probe power on the support                                         | (b, n, n) counts     |
| o      | what the patch says of the object, u / w                                   | (b, n, n) complex    |
| q      | its weight, w^2 / (w + eps): w where there is light, nothing where u is noise | (b, n, n) counts   |

With sums over the patches of a pixel, V = (sum q abs(o)^2 - abs(sum q o)^2 / sum q) / (sum q - sum q^2 / sum q) is the
unbiased weighted variance about their mean; where fewer than two patches contribute there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import scatter_patches

RIM = 1  # pixels of a patch left out: a shift is periodic, and brings in there what belongs to the other side
FEWEST = 1.5  # effective patches, (sum q)^2 / sum q^2: below it a variance would be about nothing


@dataclass(eq=False)
class Disagreement:
    """Collects patches on a canvas of `shape`, batch by batch; `epsilon` in counts is what probe power is faint."""

    shape: tuple[int, int]
    epsilon: float
    _first: NDArray[np.complex64] = field(init=False)
    _sums: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self._first = np.zeros(self.shape, dtype=np.complex64)
        self._sums = np.zeros((3, *self.shape), dtype=np.float32)

    def prepare(
        self, u: NDArray[Any], weight: NDArray[np.float32], corners: NDArray[np.int64], inset: int
    ) -> Callable[[], None]:
        """What adds synchronized contributions u (b, n, n) with their shifted probe power, at corners (b, 2) + inset;
        until then nothing is changed."""
        inner = (..., *(slice(RIM, -RIM),) * 2)
        u, weight, inset = u[inner], weight[inner], inset + RIM
        damped = 1 / (weight + np.float32(self.epsilon))
        trusted = weight * damped
        q = weight * trusted
        first, terms = u * trusted, ((u.real**2 + u.imag**2) * damped, q, q * q)

        def add() -> None:
            scatter_patches(self._first, first, corners, inset)
            for total, term in zip(self._sums, terms, strict=True):
                scatter_patches(total, term, corners, inset)

        return add

    @property
    def sums(self) -> tuple[NDArray[Any], ...]:
        """What the patches add up to."""
        return self._first, self._sums

    def deviation(self, scale: float = 1.0) -> NDArray[np.float32]:
        """Standard deviation of the patches about their mean, (H, W), times `scale`; NaN where fewer than two meet."""
        second, q, square = (total.astype(np.float64) for total in self._sums)
        mean = self._first.astype(np.complex128)
        known = q**2 > FEWEST * square
        q = np.where(known, q, 1.0)
        spread = second - (mean.real**2 + mean.imag**2) / q
        variance = np.where(known, spread / np.where(known, q - square / q, 1.0), np.nan)
        return np.asarray(scale * np.sqrt(np.maximum(variance, 0.0)), dtype=np.float32)
