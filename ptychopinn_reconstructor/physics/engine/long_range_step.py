"""The long-range phase step of the classical engine: a preconditioner for what a minibatch step learns slowly.

A phase that varies slowly over the object, exp(i a cos(q x)), only moves each diffraction pattern by its local
gradient. The share of the squared far-field amplitude that such a motion changes is q^2 J per unit of a^2, where

    J = sum abs(grad_k sqrt(I))^2 / (2 sum I)      [pixels^2, mean over both axes, k in radians per pixel]

so that a step which corrects fine detail at once (curvature 1) needs about 1/(q^2 J) passes for a period of 2 pi / q:
hundreds for a period as wide as the scan. The engine therefore adds to each update U the rotation i O M(phi),
M(q) = gain / (q^2 J), of its phase part phi = Im(U conj(O)) / abs(O)^2: a Newton step for the long-range phase where
gain = 1. Fine detail is not touched. Amplitudes need nothing of the kind: a slowly varying amplitude changes the
patterns at first order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..arrays import NUMPY, Array, Arrays
from ..forward import measure, propagate

DIMMEST = 0.05  # abs(O)^2 below which the phase of an object pixel is not trusted
LIT = 0.05  # of the largest illumination: dimmer canvas pixels take no part


def motion_sensitivity(probe: NDArray[np.complex64]) -> float:
    """J of the unscattered probe (modes, N, N), pixels^2: how much its far field shows a motion of the pattern."""
    amplitude = np.sqrt(measure(propagate(probe)[None])[0].astype(np.float64))
    step = 2 * np.pi / probe.shape[-1]
    slopes = sum(float((np.diff(amplitude, axis=axis) ** 2).sum()) for axis in (0, 1))
    return float(slopes / step**2 / 2 / (amplitude**2).sum())


@dataclass(frozen=True, eq=False)
class LongRangePhase:
    """The preconditioner on a canvas: `kernel` on the padded half spectrum, `lit` (H, W) pixels that take part."""

    kernel: Array
    padded: tuple[int, int]
    lit: Array
    arrays: Arrays = NUMPY

    @classmethod
    def for_probe(
        cls, probe: NDArray[np.complex64], illumination: NDArray[np.float32], arrays: Arrays = NUMPY
    ) -> LongRangePhase:
        """For a probe (modes, N, N) and the illumination sum abs(P_f)^2 (H, W) of the whole scan."""
        rows, cols = (fft.next_fast_len(size, real=True) for size in illumination.shape)
        q_squared = (2 * np.pi) ** 2 * (fft.fftfreq(rows)[:, None] ** 2 + fft.rfftfreq(cols)[None] ** 2)
        longest = np.pi**2 * (1 / rows**2 + 1 / cols**2)  # half the smallest q^2, so that no term runs away
        kernel = 1 / (motion_sensitivity(probe) * (q_squared + longest))
        kernel[0, 0] = 0.0  # the global phase is free
        lit = illumination > LIT * illumination.max()
        return cls(arrays.put(kernel.astype(np.float32)), (rows, cols), arrays.put(lit), arrays)

    def rotation(self, update: Array, canvas: Array) -> Array:
        """Long-range phase (H, W) in radians, at gain 1, that follows from an object update on a canvas."""
        power = (canvas.real**2 + canvas.imag**2).clip(min=DIMMEST)
        phase = self.arrays.xp.where(self.lit, (update * canvas.conj()).imag / power, 0.0)
        smooth = self.arrays.irfft2(self.arrays.rfft2(phase, self.padded) * self.kernel, self.padded)
        return smooth[: canvas.shape[0], : canvas.shape[1]]
