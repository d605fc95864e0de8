"""From the exit wave to the detector: the far field, or the near field with its magnification.

| symbol | meaning                                                                       | unit             |
|--------|-------------------------------------------------------------------------------|------------------|
| z1, z2 | distance from the source (or focus) to the sample, and from there to the detector | meters       |
| M      | magnification (z1 + z2) / z1; 1 in a parallel beam                             | 1                |
| z      | effective distance z2 / M = z1 z2 / (z1 + z2)                                  | meters           |
| dx     | pixel of the object: that of the detector divided by M                         | meters           |
| F      | Fresnel number of a pixel dx^2 / (wavelength z), along rows and columns        | 1                |
| H      | transfer function exp(-i pi (k_row^2 / F_row + k_col^2 / F_col))                | 1                |
| f      | what rounding left of a position (`geometry`)                                  | pixels           |

By the Fresnel scaling theorem the pattern of a cone beam is that of a parallel beam, z behind the sample, seen through
a magnifying glass: the curvature of the beam is no part of the probe. F is then all that the patterns depend on.

The illumination stands still before the detector and the object moves. The forward model shifts the probe by f instead
and leaves the window of the object where it is, which moves the whole wave by f: a far field keeps its intensity, but
a near field must be moved back, by the conjugate of the ramp that shifted the probe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .arrays import Array, Arrays

FresnelNumber = tuple[float, float]


def compute_magnification(source: float, detector: float) -> float:
    """M of a point source `source` before and a detector `detector` behind the sample; infinite `source`: 1."""
    return 1 + detector / source


def compute_fresnel_number(pixel: tuple[float, float], wavelength: float, distance: float) -> FresnelNumber:
    """F along rows and columns for object pixels (height, width) at an effective distance, all in meters."""
    height, width = (size**2 / (wavelength * distance) for size in pixel)
    return height, width


def fresnel_transfer(n_pixels: int, fresnel_number: FresnelNumber) -> NDArray[np.complex128]:
    """H (N, N), zero frequency at [0, 0]."""
    k = fft.fftfreq(n_pixels)
    rows, cols = (np.exp(-1j * np.pi * k**2 / number) for number in fresnel_number)
    return np.asarray(rows[:, None] * cols)


def propagate_freely(waves: NDArray[np.complex64], defocus: float) -> NDArray[np.complex64]:
    """Waves (..., N, N) further along the beam by `defocus`, wavelength times distance in square pixels."""
    number = 1 / defocus if defocus else np.inf
    return np.asarray(fft.ifft2(fft.fft2(waves) * fresnel_transfer(waves.shape[-1], (number, number))), np.complex64)


def fresnel_kernel(n_pixels: int, fresnel_number: FresnelNumber) -> NDArray[np.complex64]:
    """The factor (N, N) of `forward.propagate` on the spectrum of an exit wave, zero frequency at [0, 0].

    H times (-1)^(row + col), which brings the middle of the detector to [0, 0], where a far field has it; N is even.
    """
    sign = 1 - 2 * (np.arange(n_pixels) % 2)
    return np.asarray(fresnel_transfer(n_pixels, fresnel_number) * sign[:, None] * sign, dtype=np.complex64)


@dataclass(frozen=True, eq=False)
class Propagator:
    """From exit waves times (-1)^(x + y) to the detector and back, both orthonormal.

    Far fields have their zero frequency in the middle then, and near fields keep the factor, which no intensity shows.
    `transfer` (b, N, N) is H, zero frequency in the middle, times the conjugate of what shifted each probe; None: the
    far field.
    """

    arrays: Arrays
    transfer: Array | None = None

    @classmethod
    def for_patterns(cls, fresnel_number: FresnelNumber | None, ramp: Array, arrays: Arrays) -> Propagator:
        """Of patterns whose probes were shifted by `ramp` (b, N, N) (`Arrays.shift_ramp`)."""
        if fresnel_number is None:
            return cls(arrays)
        transfer = fft.fftshift(fresnel_transfer(ramp.shape[-1], fresnel_number)).astype(np.complex64)
        return cls(arrays, arrays.put(transfer) * ramp.conj())

    def forward(self, exit_waves: Array) -> Array:
        """Waves at the detector of exit waves (b, ..., N, N), which are spent."""
        waves = self.arrays.fft2(exit_waves, norm='ortho')
        return waves if self.transfer is None else self._back_to_space(waves, self.transfer)

    def backward(self, waves: Array) -> Array:
        """Exit waves of waves at the detector (b, ..., N, N), which are spent: the inverse of `forward`."""
        if self.transfer is None:
            return self.arrays.ifft2(waves, norm='ortho')
        return self._back_to_space(self.arrays.fft2(waves, norm='ortho'), self.transfer.conj())

    def moved_along(self, waves: Array, moved: Array) -> Array:
        """The derivative by the position of waves at the detector (b, modes, N, N), from that of their exit waves.

        `moved` (b, 2, modes, N, N) are exit waves under the derivative of the shifted probe, by row and by column, and
        are spent.
        """
        forward = self.forward(moved)
        return forward if self.transfer is None else forward + self.differentiate(waves)

    def differentiate(self, waves: Array, scales: tuple[float, float] = (1.0, 1.0)) -> Array:
        """Derivatives (b, 2, modes, N, N) along rows and columns, per pixel and times `scales`, of near-field waves."""
        arrays, side = self.arrays, waves.shape[-1]
        k = 2j * np.pi * fft.fftshift(fft.fftfreq(side))
        rows, cols = (arrays.put((k * scale).astype(np.complex64)) for scale in scales)
        spectrum = arrays.fft2(1 * waves)
        return arrays.xp.stack([arrays.ifft2(spectrum * along) for along in (rows[:, None], cols)], axis=1)

    def _back_to_space(self, spectra: Array, transfer: Array) -> Array:
        shape = (len(transfer), *(1,) * (len(spectra.shape) - 3), *transfer.shape[-2:])
        spectra *= transfer.reshape(shape)
        return self.arrays.ifft2(spectra, norm='ortho')
