"""How a probe spreads along the beam: its intensity in planes before and behind the object, and its focus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .propagation import propagate_freely

PLANES = 97  # an odd number, so that the plane of the object is one of them
REACH = 1.6  # of the distance from which a focus spreads to the probe at the object: the focus lies within it


@dataclass(frozen=True, eq=False)
class Caustic:
    """Intensity of a probe in planes along the beam.

    Parameters
    ----------
    defocus
        (planes,) wavelength times distance in square pixels, positive behind the object.
    across
        (planes, N) intensity of all modes, summed along the rows' direction.
    width
        (planes,) standard deviation of the intensity, the mean of both directions, in pixels.
    """

    defocus: NDArray[np.float64]
    across: NDArray[np.float64]
    width: NDArray[np.float64]

    @property
    def focus(self) -> float:
        """The defocus of the plane in which the probe is smallest."""
        return float(self.defocus[self.width.argmin()])


def trace_probe(probe: NDArray[np.complex64]) -> Caustic:
    """Propagate a probe (modes, N, N) in free space, as far as its divergence lets its focus be."""
    spectrum = fft.fftshift(fft.fft2(probe), axes=(-2, -1))
    divergence = _measure_width(spectrum) / probe.shape[-1]  # cycles a pixel
    reach = REACH * _measure_width(probe) / max(divergence, 1e-9)
    planes = np.linspace(-reach, reach, PLANES)
    waves = (propagate_freely(probe, plane) for plane in planes)
    found = [(np.square(np.abs(wave)).sum(axis=(0, 1)), _measure_width(wave)) for wave in waves]
    across, width = zip(*found, strict=True)
    return Caustic(planes, np.array(across), np.array(width))


def _measure_width(wave: NDArray[np.complex64]) -> float:
    """Standard deviation of the intensity of a wave (modes, N, N) in pixels, the mean of both directions."""
    intensity = np.square(np.abs(wave)).sum(axis=0, dtype=np.float64)
    sides = [intensity.sum(axis=axis) / intensity.sum() for axis in (0, 1)]
    places = np.arange(wave.shape[-1])
    return float(np.mean([np.sqrt((side * (places - (side * places).sum()) ** 2).sum()) for side in sides]))
