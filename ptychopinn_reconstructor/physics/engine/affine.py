"""Rotation, shear and scale of a whole scan from its patterns: what no single position knows, all of them show.

Positions that are stretched as a whole leave an object that is stretched with them, and in each pattern a patch of
another size than the detector's pixels say. With c' = A c the positions of a scan, c the true ones, each pattern
shows the object at c' + A x where its model says c' + x.

| symbol | meaning                                                                       | unit                     |
|--------|-------------------------------------------------------------------------------|--------------------------|
| m      | A less the identity, [row, col] by [row, col]                                 | 1                        |
| x      | place in a window, from the position                                          | pixels                   |
| X      | mean of x over the patterns that see a pixel, weighted by their light         | pixels, (H, W)           |
| J      | d sqrt(I_pred) / dm of the exit wave P_f (dO/dx_j) (x_k - X_k)                | sqrt(counts)             |
| b, H   | sum J (A - A_pred) and sum J J^T over patterns, A = sqrt(I + 3/8)             | counts                   |

m = H^-1 b is one Gauss-Newton step for all patterns together. m X is the part that the object has taken over where
several patterns see a pixel from different sides; without it spots that do not overlap, which say nothing of A, would
seem to forbid it. The standard errors are those of patterns that differ by more than counting noise: H^-1 S H^-1 with
S the scatter of their own b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..arrays import NUMPY, Array, Arrays, map_shared
from ..illumination import BATCH
from ..prepare import PreparedScan, even_batches
from ..propagation import Propagator
from .detector import add_background, scale_beam

SAMPLED = 256  # patterns that are asked, evenly spaced in canonical order: enough for four numbers
ANSCOMBE = np.float32(3 / 8)  # counts
DARK = 1e-9  # of the largest illumination; keeps X finite where there is none
SIGNIFICANT = 5.0  # standard errors
SMALLEST_GAIN = 3e-4  # of the misfit: what an object that has not settled may fake


@dataclass(frozen=True, eq=False)
class AffineMap:
    """What the positions of a scan must be multiplied by, about their mean, to be the true ones.

    `matrix` (2, 2), [row, col] by [row, col]; `errors` (2, 2) its standard errors, infinite where patterns say nothing;
    `gain` the share of the patterns' misfit that goes with it.
    """

    matrix: NDArray[np.float64]
    errors: NDArray[np.float64]
    gain: float

    @property
    def scale(self) -> float:
        """Factor on lengths."""
        return affine_scale(self.matrix)

    @property
    def rotation(self) -> float:
        """Degrees from rows towards columns."""
        return affine_rotation(self.matrix)

    @property
    def significance(self) -> float:
        """The largest entry of the matrix less the identity, in standard errors."""
        return float((np.abs(self.matrix - np.eye(2)) / self.errors).max())

    @property
    def needed(self) -> bool:
        """Whether the patterns ask for it: beyond its errors, and worth something to the fit."""
        return self.significance > SIGNIFICANT and self.gain > SMALLEST_GAIN


def affine_scale(matrix: NDArray[np.float64]) -> float:
    """The factor on lengths of a matrix (2, 2): the square root of its determinant."""
    return float(np.sqrt(max(np.linalg.det(matrix), 0.0)))


def affine_rotation(matrix: NDArray[np.float64]) -> float:
    """The angle of a matrix (2, 2), degrees from rows towards columns: that of the nearest rotation."""
    (a, b), (c, d) = matrix
    return float(np.degrees(np.arctan2(c - b, a + d)))


def estimate_affine(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64] | None = None,
    *,
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> AffineMap:
    """The map that a scan's positions need, as its patterns show it beside an object (H, W) of about six passes.

    One step: of a map far from the identity (a tenth, five degrees) it finds two thirds and more. `probe` (modes, N, N)
    in sqrt(counts) replaces the scan's; `after_block` hears how many patterns have been asked.
    """
    probe = prepared.probe if probe is None else probe
    index = np.unique(np.linspace(0, len(prepared) - 1, min(SAMPLED, len(prepared))).astype(np.int64))
    slope, curvature, misfit = map_slopes(prepared, index, canvas, probe, arrays, after_block)
    total = curvature.sum(axis=0)
    if not np.linalg.eigvalsh(total)[0] > 1e-9 * max(float(np.trace(total)), 1e-12):
        return AffineMap(np.eye(2), np.full((2, 2), np.inf), 0.0)
    inverse = np.linalg.inv(total)
    found = inverse @ slope.sum(axis=0)
    own = slope - curvature @ found
    variance = np.diag(inverse @ (own.T @ own) @ inverse)
    gain = float(found @ slope.sum(axis=0)) / max(misfit, 1e-12)
    return AffineMap(np.linalg.inv(np.eye(2) + found.reshape(2, 2)), np.sqrt(variance).reshape(2, 2), gain)


def map_slopes(
    prepared: PreparedScan,
    index: NDArray[np.int64],
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    arrays: Arrays,
    after_block: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """b (n, 4) and H (n, 4, 4) of the patterns at `index`, and their misfit sum (A - A_pred)^2."""
    xp, side = arrays.xp, probe.shape[-1]
    there, inclines = arrays.put(canvas), [arrays.put(part) for part in _gradient(canvas)]
    centers = _mean_places(prepared, probe, arrays)
    spectrum = arrays.put(fft.fftshift(fft.fft2(probe), axes=(-2, -1)).astype(np.complex64))
    good = arrays.put(prepared.good.astype(np.float32))

    def compute(block: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        corners, fractions = prepared.layout.corners[block], prepared.layout.fractions[block]
        ramp = arrays.shift_ramp(fractions, side)
        propagator = Propagator.for_patterns(prepared.scan.fresnel_number, ramp, arrays)
        light = arrays.ifft2(spectrum * scale_beam(prepared, block, ramp, arrays)[:, None])
        wave = propagator.forward(light * arrays.gather(there, corners, side)[:, None])
        predicted = add_background(prepared, (wave.real**2 + wave.imag**2).sum(axis=1), arrays)
        amplitude = xp.sqrt(predicted + ANSCOMBE)
        lacking = (xp.sqrt(arrays.put(prepared.counts(block)) + ANSCOMBE) - amplitude) * good
        excess = arrays.double(lacking)
        weight = (good / amplitude)[:, None]
        places = [arrays.put(_places(fractions, side, axis)) for axis in (0, 1)]
        offsets = [x - arrays.gather(mean, corners, side) for x, mean in zip(places, centers, strict=True)]
        parts = []
        for incline in inclines:
            tilted = light * arrays.gather(incline, corners, side)[:, None]
            for offset in offsets:
                moved = propagator.forward(tilted * offset[:, None])
                parts.append((wave.conj() * moved).real.sum(axis=1) * weight[:, 0])
        flat = arrays.double(xp.stack(parts, axis=1).reshape(len(block), 4, -1))
        score = arrays.get(xp.einsum('nap,np->na', flat, excess.reshape(len(block), -1)))
        return score, arrays.get(xp.einsum('nap,nbp->nab', flat, flat)), arrays.square_sum(lacking)

    slopes, curvatures, misfit, done = [], [], 0.0, 0
    blocks = even_batches(index, max(1, arrays.block_pixels // probe.size))
    for slope, curvature, of_block in map_shared(compute, blocks, arrays):
        slopes.append(slope)
        curvatures.append(curvature)
        misfit += of_block
        done += len(slope)
        if after_block is not None:
            after_block(done)
    return np.concatenate(slopes), np.concatenate(curvatures), misfit


def _places(fractions: NDArray[np.float64], side: int, axis: int) -> NDArray[np.float32]:
    """x along one axis in the windows of patterns (n, 2), to be broadcast: (n, N, 1) or (n, 1, N)."""
    x = (np.arange(side) - (side - 1) / 2 - fractions[:, axis, None]).astype(np.float32)
    return x[:, :, None] if axis == 0 else x[:, None, :]


def _mean_places(prepared: PreparedScan, probe: NDArray[np.complex64], arrays: Arrays) -> list[Array]:
    """X along rows and columns, each (H, W)."""
    laid, side = prepared.layout, probe.shape[-1]
    power = arrays.put((np.abs(probe) ** 2).sum(axis=0, dtype=np.float32))
    sums = [arrays.put(np.zeros(laid.shape, dtype=np.float32)) for _ in range(3)]
    for start in range(0, len(prepared), BATCH):
        corners, fractions = laid.corners[start : start + BATCH], laid.fractions[start : start + BATCH]
        weights = [1.0, *(arrays.put(_places(fractions, side, axis)) for axis in (0, 1))]
        wide = arrays.xp.broadcast_to(power, (len(corners), side, side))
        for total, weight in zip(sums, weights, strict=True):
            arrays.scatter(total, wide * weight, corners)
    lit = arrays.xp.maximum(sums[0], DARK * sums[0].max())
    return [total / lit for total in sums[1:]]


def _gradient(canvas: NDArray[np.complex64]) -> list[NDArray[np.complex64]]:
    """Derivatives of a canvas (H, W) along rows and columns, per pixel, of its trigonometric interpolation."""
    spectrum = fft.fft2(canvas - canvas.mean())
    rows, cols = (2j * np.pi * fft.fftfreq(size) for size in canvas.shape)
    return [fft.ifft2(spectrum * along).astype(np.complex64) for along in (rows[:, None], cols)]
