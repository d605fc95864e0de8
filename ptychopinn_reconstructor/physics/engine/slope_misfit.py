"""How far the patterns lie from where the object puts them on the detector: a misfit that few counts can tell.

A misfit over all pixels drowns in counting noise what moves a whole pattern by a hundredth of a pixel. The slope of the
phase that a pattern asks for beyond the object's (`wavefront`) is such a motion, by g N / (2 pi) pixels, in the near
field by g / (2 pi F): one number for each axis out of thousands of pixels, whose noise is known, H^-1 / 4. Wrong
positions, a wrong probe, patterns off center and a long-range phase that has not settled all leave such slopes behind,
long before the misfit tells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Arrays
from ..prepare import PreparedScan
from ..probes import energy_diameter
from .sloped_waves import measure_mean_square, slopes

NEAR_WIDTH = 1 / 4  # of an illumination that fills the window, whose wider phase its tiles tell
SAMPLED = 128  # patterns, evenly spaced in canonical order


class SlopeMisfit(NamedTuple):
    """Slopes that patterns ask for beyond an object's.

    `ratio`: their mean square in units of what counting noise alone makes of it, near 1 for an object that explains
    the data. `shift`: how far they move the patterns beyond noise, rms, pixels of the detector. `phase`: what they add
    up to over the diameter that holds 90 % of the probe's energy, in the near field over a quarter of it, radians.
    """

    ratio: float
    shift: float
    phase: float


def measure_slope_misfit(
    prepared: PreparedScan, canvas: NDArray[np.complex64], probe: NDArray[np.complex64], arrays: Arrays = NUMPY
) -> SlopeMisfit | None:
    """The slopes left by a canvas (H, W) and a probe (modes, N, N) in sqrt(counts); None where no pattern tells any."""
    index = np.unique(np.linspace(0, len(prepared) - 1, min(SAMPLED, len(prepared))).astype(np.int64))
    asked = slopes(prepared.part(index), arrays.put(canvas), probe, arrays)
    gradient, curvature = asked
    telling = np.linalg.det(curvature) > 0
    if not telling.any():
        return None
    gradient, variance = gradient[telling], np.linalg.inv(curvature[telling])
    found = np.einsum('nij,nj->ni', variance, gradient)
    noise = np.trace(variance, axis1=1, axis2=2).mean() / 4
    excess = math.sqrt(max(0.0, float((found**2).sum(axis=1).mean() - noise)))
    near = prepared.scan.fresnel_number
    pixels, width = (prepared.n_pixels, 1.0) if near is None else (1 / min(near), NEAR_WIDTH)
    return SlopeMisfit(
        measure_mean_square(asked), excess * pixels / (2 * np.pi), width * excess * energy_diameter(probe)
    )
