"""The prior of the refinement: edges are rare, so a step that only follows counting noise is taken back.

| symbol | meaning                                                          | unit               |
|--------|------------------------------------------------------------------|--------------------|
| W      | illumination, sum abs(P_f)^2 over all positions                  | counts per pixel   |
| M      | `EDGE_COUNTS`: what an edge costs in the log-likelihood          | 1 / transmission   |
| t      | threshold M / (4 W): the more counts, the weaker the prior       | transmission       |

After a pass the canvas O becomes the minimum of abs(u - O)^2 / 2 + t abs(grad u), summed over pixels: a proximal step
of the total variation (Rudin, Osher, Fatemi, Physica D 60, 259 (1992)), real and imaginary part together so that they
share their edges, in its dual form (Chambolle, J. Math. Imaging Vis. 20, 89 (2004)). 4 W is the curvature of the
likelihood in one pixel, so that t follows the dose by itself: 0.1 at 15 counts a pixel, 0.001 at 1,500. A background
blinds the dark pixels of the patterns, whose part of the likelihood is then hardly curved at all, and what remains of
it is mostly noise: t then falls no faster than that noise, with the root of the dose (`hidden_strength`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays, map_shared, row_bands

EDGE_COUNTS = 9.0  # M at strength 1
DIM = 0.1  # of the mean illumination: dimmer pixels are smoothed no more than those
HIDDEN = 0.1  # measured at 1e4 to 1e6 photons with 3 to 25 % background: 1 to 2, 2 to 5 and 10 times are best
ITERATIONS = 25
BAND = 128  # rows of the image at a time, at least: around them 2 (ITERATIONS + 1) are smoothed for nothing
DUAL_STEP = 0.24  # stable below 1/4: 2 over the largest eigenvalue, 8, of the discrete Laplacian


@dataclass(frozen=True, eq=False)
class Smoothness:
    """The proximal step for one illumination; `threshold` (H, W) in transmission."""

    threshold: Array
    arrays: Arrays = NUMPY

    @classmethod
    def for_dose(cls, illumination: NDArray[np.float32], strength: float, arrays: Arrays = NUMPY) -> Smoothness:
        """For an illumination (H, W) in counts per pixel; `strength` multiplies M."""
        counts = np.maximum(illumination, np.float32(DIM * mean_dose(illumination)))
        return cls(arrays.put(np.asarray(strength * EDGE_COUNTS / 4 / counts, dtype=np.float32)), arrays)

    def __call__(self, image: Array, after_band: Callable[[], None] | None = None, *, strength: float = 1.0) -> Array:
        """The image (H, W) smoothed with `strength` times t; an exception of `after_band` leaves it as it was."""
        threshold, smooth = strength * self.threshold, self.arrays.xp.zeros_like(image)
        compute = partial(self._smooth_band, image, threshold)
        bands = row_bands(image.shape, self.arrays.block_pixels // 4, BAND)
        # Bands of a device are not handed from process to process: each smooths them all, in no time.
        on_cpu = isinstance(image, np.ndarray)
        for band, part in map_shared(compute, bands, self.arrays) if on_cpu else self.arrays.map_blocks(compute, bands):
            smooth[band] = part
            if after_band is not None:
                after_band()
        return smooth

    def _smooth_band(self, image: Array, threshold: Array, band: slice) -> tuple[slice, Array]:
        """Rows of the smoothed image, found with as many rows around them as can have reached them."""
        first = max(0, band.start - ITERATIONS - 1)
        wide = slice(first, band.stop + ITERATIONS + 1)
        return band, self._smooth(image[wide], threshold[wide])[band.start - first : band.stop - first]

    def _smooth(self, image: Array, threshold: Array) -> Array:
        xp = self.arrays.xp
        rows, cols = xp.zeros_like(image), xp.zeros_like(image)
        for _ in range(ITERATIONS):
            smooth = _divergence(rows, cols)
            smooth += image
            smooth *= DUAL_STEP
            rows[:-1] += smooth[1:]
            rows[:-1] -= smooth[:-1]
            cols[:, :-1] += smooth[:, 1:]
            cols[:, :-1] -= smooth[:, :-1]
            size = xp.sqrt(rows.real**2 + rows.imag**2 + cols.real**2 + cols.imag**2)
            shrink = (threshold / size.clip(min=1e-20)).clip(max=1)
            rows *= shrink
            cols *= shrink
        return image + _divergence(rows, cols)


def hidden_strength(background: float) -> float:
    """By how much stronger the prior is best beside so many counts of background per object pixel."""
    return 1 + HIDDEN * math.sqrt(background)


def mean_dose(illumination: NDArray[np.float32]) -> float:
    """Counts per pixel of an illumination (H, W), averaged over the pixels with at least 0.3 of the largest."""
    return float(illumination[illumination >= 0.3 * illumination.max()].mean(dtype=np.float64))


def _divergence(rows: Array, cols: Array) -> Array:
    """Of a field whose last row (of `rows`) and last column (of `cols`) are zero: the adjoint of minus the gradient."""
    out = rows + cols
    out[1:] -= rows[:-1]
    out[:, 1:] -= cols[:, :-1]
    return out
