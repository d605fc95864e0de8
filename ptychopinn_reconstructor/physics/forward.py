"""The reference forward model: measure(propagate(illuminate(probe, patch))), and the losses on it.

Every backend states these functions again under the same names and is pinned to them by parity tests.

| symbol | meaning                                   | shape, unit                                            |
|--------|-------------------------------------------|--------------------------------------------------------|
| P      | probe, modes add in intensity             | (modes, N, N) complex, sqrt(counts)                    |
| O      | object patch (a window of the canvas)     | (..., N, N) complex, transmission                      |
| psi    | exit wave P O                             | (..., modes, N, N), sqrt(counts)                       |
| Psi    | wave at the detector, its middle at 0, 0: the far field, orthonormal FFT of psi, or the near  |
|        | field (`propagation`)                     | (..., modes, N, N), sqrt(counts)                       |
| I      | intensity, sum over modes of abs(Psi)^2   | (..., N, N) counts, middle at N//2, N//2               |
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .geometry import fourier_shift, shift_ramp

EPSILON_COUNTS = 0.1  # added to both sides of the Poisson likelihood, so that it is finite and unbiased


def shift_probe(probe: NDArray[Any], fractions: NDArray[np.float64]) -> NDArray[Any]:
    """The probe at sub-pixel offsets f: (modes, N, N) or (b, modes, N, N), and (b, 2) to (b, modes, N, N)."""
    return fourier_shift(probe if probe.ndim == 4 else probe[None], fractions[:, None])


def illuminate(probe: NDArray[Any], patch: NDArray[Any]) -> NDArray[Any]:
    """Exit wave psi = P O: (b, modes, N, N) or (modes, N, N) with (b, N, N) to (b, modes, N, N)."""
    return np.asarray(probe * patch[..., None, :, :])


def propagate(exit_wave: NDArray[Any], kernel: NDArray[Any] | None = None) -> NDArray[Any]:
    """Psi of exit waves (..., N, N), orthonormal, the middle of the detector at [0, 0].

    Psi = F psi, the far field; with a `kernel` (`propagation.fresnel_kernel`) F^-1 (kernel F psi), the near field.
    """
    far_field = np.asarray(fft.fft2(exit_wave, norm='ortho'))
    return far_field if kernel is None else np.asarray(fft.ifft2(far_field * kernel, norm='ortho'))


def measure(wave: NDArray[Any]) -> NDArray[Any]:
    """Intensity in counts, modes added, the middle moved to [N//2, N//2]: (b, modes, N, N) to (b, N, N)."""
    return np.asarray(fft.fftshift((np.abs(wave) ** 2).sum(axis=-3), axes=(-2, -1)))


def diffract(
    probe: NDArray[Any], patches: NDArray[Any], fractions: NDArray[np.float64], kernel: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Intensity of object patches (b, N, N) under the shifted probe, in the near field that of a probe at rest: the
    whole forward model."""
    exit_wave = illuminate(shift_probe(probe, fractions), patches)
    if kernel is not None:
        kernel = kernel * shift_ramp(-fractions, probe.shape[-1])[:, None]
    return measure(propagate(exit_wave, kernel))


def unscattered_counts(probe: NDArray[Any], kernel: NDArray[Any] | None = None) -> NDArray[Any]:
    """Intensity (N, N) of a probe (modes, N, N) without a sample."""
    return np.asarray(measure(propagate(probe, kernel)[None])[0])


def poisson_loss(intensity: NDArray[Any], counts: NDArray[Any], good: NDArray[np.bool_] | None = None) -> float:
    """Mean Poisson negative log-likelihood per good pixel, less its value at intensity = counts.

    I_pred - (I + e) log(I_pred + e) with e = 0.1: its expected minimum is at I_pred = the expected counts.
    """
    e = EPSILON_COUNTS
    excess = intensity - counts - (counts + e) * np.log((intensity + e) / (counts + e))
    return float(excess.mean() if good is None else excess[..., good].mean())


def total_variation(patches: NDArray[Any], weight: NDArray[Any]) -> float:
    """Mean over patches (b, n, n) of their differences to the next pixel below and to the right, weighted by `weight`.

    sum w (abs(o[i+1, j] - o[i, j]) + abs(o[i, j+1] - o[i, j])) / sum w with w (b, n, n) or (n, n), transmission.
    """
    below, right = (np.abs(np.diff(patches, axis=axis)) for axis in (-2, -1))
    total = (weight[..., :-1, :] * below).sum(axis=(-2, -1)) + (weight[..., :-1] * right).sum(axis=(-2, -1))
    return float((total / weight.sum(axis=(-2, -1))).mean())


def object_error(patches: NDArray[Any], labels: NDArray[Any], weight: NDArray[Any]) -> float:
    """Mean absolute error of patches (b, n, n) after removing each one's global phase, weighted by w, transmission."""
    inner = (weight * labels * patches.conj()).sum(axis=(-2, -1), keepdims=True)
    error = np.abs(patches * np.exp(1j * np.angle(inner)) - labels)
    return float(((weight * error).sum(axis=(-2, -1)) / weight.sum(axis=(-2, -1))).mean())


def amplitude_loss(intensity: NDArray[Any], counts: NDArray[Any], good: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute difference of the diffraction amplitudes, sqrt(counts), per good pixel."""
    difference = np.abs(np.sqrt(intensity) - np.sqrt(counts))
    return float(difference.mean() if good is None else difference[..., good].mean())
