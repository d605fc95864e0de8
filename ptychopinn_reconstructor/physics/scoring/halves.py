"""Two halves of a scan, and what they have in common: the resolution that the data themselves vouch for.

Neighbors in the canonical order go to different halves, which of them first is drawn: a plain odd/even split of a
raster would leave out whole columns. The halves share canvas, probe and positions, so that only a global phase and a
linear phase ramp can stand between them; both are removed before they are correlated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frc import FRC, frc
from .registration import remove_ramp

SEED = 0


def split_interleaved(n: int, seed: int = SEED) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices, increasing, of two halves of n patterns: of each pair (0, 1), (2, 3), ... one goes to each."""
    first = np.random.default_rng(seed).integers(0, 2, size=-(-n // 2))
    index = np.arange(n, dtype=np.int64)
    swapped = (index % 2) ^ first[index // 2]
    return index[swapped == 0], index[swapped == 1]


def halves_frc(one: NDArray[Any], other: NDArray[Any], area: tuple[slice, slice]) -> FRC:
    """Fourier ring correlation of two objects (H, W) on one canvas, within `area`.

    Raises InputError when the area is smaller than 4 pixels.
    """
    a, b = (np.asarray(half[area], dtype=np.complex128) for half in (one, other))
    return frc(remove_ramp(a, b), b)
