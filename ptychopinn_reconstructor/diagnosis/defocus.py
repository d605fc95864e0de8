"""A probe in other planes, in steps that change the phase over its pupil by as much whatever its shape is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..physics.propagation import propagate_freely

STEP = 0.5  # rad rms over the pupil


def defocus_step(probe: NDArray[np.complex64]) -> float:
    """The distance that changes the phase over the pupil of a probe (modes, N, N) by `STEP`; see `propagate_probe`."""
    power = (np.abs(np.fft.fft2(probe)) ** 2).sum(axis=0, dtype=np.float64)
    k2 = _squared_frequency(probe.shape[-1])
    spread = np.sqrt(np.average((k2 - np.average(k2, weights=power)) ** 2, weights=power))
    return float(STEP / (np.pi * max(float(spread), 1e-6)))


def propagate_probe(probe: NDArray[np.complex64], distance: float) -> NDArray[np.complex64]:
    """A probe (modes, N, N) in another plane; pi rad at a spatial frequency of one cycle per pixel is 1.

    The sign is that of the phase: a positive `distance` lies before the object.
    """
    return propagate_freely(probe, -distance)


def _squared_frequency(side: int) -> NDArray[np.float64]:
    return np.asarray(np.add.outer(*[np.fft.fftfreq(side) ** 2] * 2))
