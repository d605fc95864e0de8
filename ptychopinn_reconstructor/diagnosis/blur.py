"""A blur of the patterns, as incoherent modes of the probe.

| symbol | meaning                                                              | unit   |
|--------|----------------------------------------------------------------------|--------|
| I      | pattern without blur                                                 | counts |
| K      | share of the light that goes so far beside its pixel; its sum is 1    | 1      |
| P      | probe, x its coordinates                                             | pixels |

A pattern moved by q on the detector is that of the probe times exp(2 pi i q x / N), so that sum_q K(q) I(k - q) is what
the modes sqrt(K(q)) P(x) exp(2 pi i q x / N) make together. Few orthogonal ones hold nearly all of their power.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..physics.engine.modes import orthogonalize
from ..scan import Scan

REACH = 2.5  # widths of K, from which on it is nothing
KEPT = 0.985  # of the power, by as many modes as it takes
MOST = 16


def blur_probe(scan: Scan, width: float) -> Scan:
    """The scan with the modes of its probe that a Gaussian blur of `width` pixels rms comes to, of the same power."""
    assert scan.probe is not None
    modes = orthogonalize(_shifted_modes(scan.probe, width))
    power = (np.abs(modes) ** 2).sum(axis=(1, 2), dtype=np.float64)
    enough = int(np.searchsorted(np.cumsum(power) / power.sum(), KEPT)) + 1
    kept = modes[: min(enough, max(MOST, len(scan.probe)))]
    return scan.with_probe(kept * np.float32(np.sqrt(power.sum() / power[: len(kept)].sum())))


def _shifted_modes(probe: NDArray[np.complex64], width: float) -> NDArray[np.complex64]:
    """sqrt(K(q)) P(x) exp(2 pi i q x / N) of all q within reach, (modes x q, N, N)."""
    side, reach = probe.shape[-1], int(np.ceil(REACH * width))
    offsets = np.arange(-reach, reach + 1)
    share = np.exp(-(offsets**2) / (2 * width**2))
    share /= share.sum()
    x = np.arange(side) - side // 2
    ramps = np.sqrt(share)[:, None] * np.exp(2j * np.pi * np.outer(offsets, x) / side)
    shifted = [probe * np.outer(row, column) for row, column in product(ramps, ramps)]
    return np.concatenate(shifted).astype(np.complex64)
