"""The reference forward model: measure(propagate(illuminate(probe, patch))), and the losses on it.

Every backend states these functions again under the same names and is pinned to them by parity tests.

| symbol | meaning                                   | shape, unit                                            |
|--------|-------------------------------------------|--------------------------------------------------------|
| P      | probe, modes add in intensity             | (modes, N, N) complex, sqrt(counts)                    |
| O      | object patch (a window of the canvas)     | (..., N, N) complex, transmission                      |
| psi    | exit wave P O                             | (..., modes, N, N), sqrt(counts)                       |
| Psi    | far field, orthonormal FFT of psi         | (..., modes, N, N), sqrt(counts), zero frequency at 0,0|
| I      | intensity, sum over modes of abs(Psi)^2   | (..., N, N) counts, zero frequency at N//2, N//2       |
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .geometry import fourier_shift

EPSILON_COUNTS = 0.1  # added to both sides of the Poisson likelihood, so that it is finite and unbiased


def shift_probe(probe: NDArray[Any], fractions: NDArray[np.float64]) -> NDArray[Any]:
    """The probe at sub-pixel offsets f: (modes, N, N) and (b, 2) to (b, modes, N, N)."""
    return fourier_shift(probe[None], fractions[:, None])


def illuminate(probe: NDArray[Any], patch: NDArray[Any]) -> NDArray[Any]:
    """Exit wave psi = P O: (b, modes, N, N) or (modes, N, N) with (b, N, N) to (b, modes, N, N)."""
    return np.asarray(probe * patch[..., None, :, :])


def propagate(exit_wave: NDArray[Any]) -> NDArray[Any]:
    """Far field Psi = F psi, orthonormal, zero frequency at [0, 0]."""
    return np.asarray(fft.fft2(exit_wave, norm='ortho'))


def measure(far_field: NDArray[Any]) -> NDArray[Any]:
    """Intensity in counts, modes added, zero frequency moved to [N//2, N//2]: (b, modes, N, N) to (b, N, N)."""
    return np.asarray(fft.fftshift((np.abs(far_field) ** 2).sum(axis=-3), axes=(-2, -1)))


def diffract(probe: NDArray[Any], patches: NDArray[Any], fractions: NDArray[np.float64]) -> NDArray[Any]:
    """Intensity of object patches (b, N, N) under the shifted probe: the whole forward model."""
    return measure(propagate(illuminate(shift_probe(probe, fractions), patches)))


def poisson_loss(intensity: NDArray[Any], counts: NDArray[Any], good: NDArray[np.bool_] | None = None) -> float:
    """Mean Poisson negative log-likelihood per good pixel, less its value at intensity = counts.

    I_pred - (I + e) log(I_pred + e) with e = 0.1: its expected minimum is at I_pred = the expected counts.
    """
    e = EPSILON_COUNTS
    excess = intensity - counts - (counts + e) * np.log((intensity + e) / (counts + e))
    return float(excess.mean() if good is None else excess[..., good].mean())


def amplitude_loss(intensity: NDArray[Any], counts: NDArray[Any], good: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute difference of the diffraction amplitudes, sqrt(counts), per good pixel."""
    difference = np.abs(np.sqrt(intensity) - np.sqrt(counts))
    return float(difference.mean() if good is None else difference[..., good].mean())
