"""Scan positions from the patterns: what a motion of the probe over the object does to the far field.

| symbol | meaning                                                              | unit                     |
|--------|----------------------------------------------------------------------|--------------------------|
| u      | displacement of a position from the scan's own, [row, col]           | pixels                   |
| J      | d sqrt(I_pred) / du = sum Re(conj(Psi) F(dP_f/du O)) / sqrt(I_pred)  | sqrt(counts) per pixel   |
| b, H   | sum J (sqrt(I) - sqrt(I_pred)) and sum J J^T, over the good pixels   | counts per pixel, pixel^2|
| s      | `EXPECTED_PIXELS`: how far positions are off before anything is known| pixels                   |

One Gauss-Newton step per pattern and pass, of the likelihood 2 sum (sqrt(I) - sqrt(I_pred))^2 with the prior
u^2 / (2 s^2): (H + 1/(4 s^2)) du = b - u/(4 s^2), no longer than `LONGEST_STEP`, and a part of the last
one. The object follows a common shift, stretch, rotation or shear of all positions, so that single patterns hardly tell
it: after each pass what an affine map of the positions explains is taken out of u; `alignment` finds it by itself. What
neighbors have in common hardly moves either; `strain` finds that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays, sum_axis
from ..prepare import PreparedScan

EXPECTED_PIXELS = 1.0  # s
LONGEST_STEP = 0.5  # pixels a pass, along each axis, before momentum
MOMENTUM = 0.5  # share of the last step that is repeated: the object, which followed the error, holds each back
DARKEST = 1e-6  # counts; keeps J finite on dark pixels


@dataclass(eq=False)
class Displacements:
    """Displacements `values` (n, 2) of positions (n, 2), both in pixels and canonical order, at most `largest` long.

    `last` (n, 2) is what each was moved by when its pattern was last asked.
    """

    positions: NDArray[np.float64]
    largest: float
    values: NDArray[np.float64] = field(init=False)
    last: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.values = np.zeros_like(self.positions)
        self.last = np.zeros_like(self.positions)

    def step(self, index: NDArray[np.int64], slope: NDArray[np.float64], curvature: NDArray[np.float64]) -> None:
        """Move the positions at `index` (b,) by b = `slope` (b, 2) and H = `curvature` (b, 2, 2)."""
        stiffness = 1 / (4 * EXPECTED_PIXELS**2)
        now = self.values[index]
        newton = np.linalg.solve(curvature + stiffness * np.eye(2), (slope - stiffness * now)[..., None])[..., 0]
        step = np.clip(newton, -LONGEST_STEP, LONGEST_STEP) + MOMENTUM * self.last[index]
        self.last[index] = step
        self.values[index] = self._bounded(now + step)

    def move(self, by: NDArray[np.float64]) -> None:
        """Move all positions by (n, 2) pixels."""
        self.values = self._bounded(self.values + by)

    def _bounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        length = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray(values * np.minimum(1, self.largest / np.maximum(length, 1e-12)))

    def remove_affine_part(self) -> None:
        """Take out what the object could take over: the affine part of the displacements, their mean with it."""
        terms = np.column_stack([np.ones(len(self.positions)), self.positions - self.positions.mean(axis=0)])
        self.values -= terms @ np.linalg.lstsq(terms, self.values, rcond=None)[0]


def displacement_gradient(
    wave: Array,
    moved: Array,
    counts: Array,
    predicted: Array,
    good: Array | None,
    arrays: Arrays = NUMPY,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """b (n, 2) and H (n, 2, 2) of n patterns, all arrays with the zero frequency at the same place; `moved` is spent.

    `wave` (n, modes, N, N) is Psi, `moved` (n, 2, modes, N, N) its derivative by u, `counts` and `predicted` (n, N, N)
    the measured and the predicted intensity, `good` (N, N) pixels or None for all.
    """
    xp = arrays.xp
    amplitude = xp.sqrt(predicted.clip(min=DARKEST))
    moved *= wave.conj()[:, None]
    slope = sum_axis(moved.real, 2) / amplitude[:, None]
    if good is not None:
        slope *= good
    # In single precision: its rounding is a thousandth of what counting noise makes of b.
    flat = slope.reshape(*slope.shape[:2], -1)
    excess = xp.sqrt(counts)
    excess -= amplitude
    products = (flat @ excess.reshape(len(counts), -1, 1))[..., 0], xp.einsum('nap,nbp->nab', flat, flat)
    score, information = (arrays.get(arrays.double(product)) for product in products)
    return score, information


def displace_scan(prepared: PreparedScan, displacements: NDArray[np.float64]) -> PreparedScan:
    """The scan with its positions displaced by (n, 2) pixels in canonical order; canvas and order stay the same.

    A window that would leave the canvas stays at its edge, and the probe is shifted within it.
    """
    positions = prepared.scan.positions.copy()
    positions[prepared.order] += displacements
    laid = prepared.layout
    place = laid.corners + laid.fractions + displacements
    corners = np.clip(np.rint(place), 0, np.asarray(laid.shape) - prepared.n_pixels).astype(np.int64)
    return replace(
        prepared,
        scan=replace(prepared.scan, positions=positions),
        positions=prepared.positions + displacements,
        layout=replace(laid, corners=corners, fractions=place - corners),
    )
