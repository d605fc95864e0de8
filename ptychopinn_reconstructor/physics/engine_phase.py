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

from .forward import measure, propagate

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

    kernel: NDArray[np.float32]
    padded: tuple[int, int]
    lit: NDArray[np.bool_]

    @classmethod
    def for_probe(cls, probe: NDArray[np.complex64], illumination: NDArray[np.float32]) -> LongRangePhase:
        """For a probe (modes, N, N) and the illumination sum abs(P_f)^2 (H, W) of the whole scan."""
        rows, cols = (fft.next_fast_len(size, real=True) for size in illumination.shape)
        q_squared = (2 * np.pi) ** 2 * (fft.fftfreq(rows)[:, None] ** 2 + fft.rfftfreq(cols)[None] ** 2)
        longest = np.pi**2 * (1 / rows**2 + 1 / cols**2)  # half the smallest q^2, so that no term runs away
        kernel = 1 / (motion_sensitivity(probe) * (q_squared + longest))
        kernel[0, 0] = 0.0  # the global phase is free
        return cls(kernel.astype(np.float32), (rows, cols), illumination > LIT * illumination.max())

    def rotation(self, update: NDArray[np.complex64], canvas: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Long-range phase (H, W) in radians, at gain 1, that follows from an object update on a canvas."""
        power = np.maximum(canvas.real**2 + canvas.imag**2, np.float32(DIMMEST))
        phase = np.where(self.lit, (update * canvas.conj()).imag / power, np.float32(0))
        smooth = fft.irfft2(fft.rfft2(phase, s=self.padded) * self.kernel, s=self.padded)
        return np.asarray(smooth[: canvas.shape[0], : canvas.shape[1]])
