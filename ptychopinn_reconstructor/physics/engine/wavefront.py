"""The long-range phase that an object owes to its patterns, in closed form: each is a lenslet of a wavefront sensor.

A phase that varies slowly over an object hardly changes any one pattern: it only moves it on the detector, by the
slope that the phase has where the pattern was taken. Patches that are synchronized by their overlaps, and passes that
correct one batch after the other, let small errors add up from neighbor to neighbor. The patterns do not: as in a
Shack-Hartmann sensor, their slopes taken together are the wavefront. In the near field each pattern is many lenslets
(`local_slopes`).

| symbol   | meaning                                                                            | unit              |
|----------|------------------------------------------------------------------------------------|-------------------|
| g        | slope of the missing phase where a pattern was taken, [row, col]                   | radians per pixel |
| A        | sqrt(I + 3/8), Anscombe's amplitude: its noise is even, and where it is dark smooth | sqrt(counts)      |
| J        | dA_pred / dg                                                                       | sqrt(counts) pixel|
| b, H     | sum J (A - A_pred) and sum J J^T, over the good pixels (`positions.motion`)         | counts pixel, ^2  |
| D        | diameter of the circle that holds 90 % of the probe's energy                       | pixels            |
| phi      | missing phase: a plane, and cubic B-splines with knots every D pixels, weights w   | radians           |
| S        | slope of each spline as each pattern sees it, weighted by abs(P)^2                 | 1 / pixel         |
| R        | bending energy of the splines: squared second differences of their weights         | 1                 |

The plane is the common slope of all patterns. The rest is the maximum a posteriori w = (S^T H S + l R)^-1 S^T b, times
a gain. Two interleaved halves of the patterns choose both: l is the one with which the phase of either half explains
most of the other, and the gain follows from the share of it that they agree on, so that neither noise nor what patterns
do not have in common is taken for a phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.sparse import linalg

from ..arrays import NUMPY, Array, Arrays
from ..geometry import Layout
from ..illumination import illumination
from ..prepare import PreparedScan
from ..probes import energy_diameter
from ..scoring.halves import split_interleaved
from ..stitching.stitch import EPSILON_WEIGHT, probe_weight
from .local_slopes import tile_size, tile_slopes
from .sloped_waves import Slopes, slopes

BENDING = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # l, relative to the mean information on a spline
RIDGE = 1e-9  # of the same: holds what no pattern sees, such as the global phase
FEWEST = 16  # patterns; fewer are no wavefront
DEGREE = 3  # of the splines
CLOSEST_KNOTS = 1 / 8  # of N: what a probe that is a point may ask for
CHUNK = 4096  # patterns that are laid out at a time

Matrix = sparse.csr_array


def correct_long_range_phase(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64] | None = None,
    *,
    light: NDArray[np.float32] | None = None,
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> Array:
    """A canvas (H, W) of `arrays` with the long-range phase that the patterns ask for; still 1 where nothing is known.

    `probe` (modes, N, N) in sqrt(counts) replaces the scan's. `light` (H, W), in counts, is by how much each pixel is
    known, None: by all light that falls there. `after_block` hears how many patterns are done.
    """
    probe = prepared.probe if probe is None else probe
    if len(prepared) < FEWEST:
        return canvas
    light = illumination(prepared.layout, probe, arrays) if light is None else light
    if prepared.scan.fresnel_number is None:
        phase = long_range_phase(prepared.layout, slopes(prepared, canvas, probe, arrays, after_block), probe)
    else:
        size = tile_size(prepared, probe)
        phase = long_range_phase(*tile_slopes(prepared, canvas, probe, size, arrays, after_block))
    turn = np.exp(1j * (phase - np.float32(np.average(phase, weights=light))))
    # (sum u + eps) / (sum w + eps), as patches are stitched, with u turned: eps stays as it is.
    eps = np.float32(EPSILON_WEIGHT * probe_weight(probe, probe.shape[-1]).max())
    empty = (1 - turn) * (eps / (light + eps))
    return canvas * arrays.put(turn) + arrays.put(empty)


def long_range_phase(layout: Layout, found: Slopes, probe: NDArray[np.complex64]) -> NDArray[np.float32]:
    """phi on the canvas (H, W) of a layout, in radians up to a constant: a plane alone where the halves disagree.

    `probe` (modes, N, N) is what the patterns were taken with.
    """
    total = found.curvature.sum(axis=0)
    if not np.linalg.det(total) > 0:  # no light, or a probe that shows no slope
        return np.zeros(layout.shape, dtype=np.float32)
    plane = np.linalg.solve(total, found.gradient.sum(axis=0))
    rest = Slopes(found.gradient - found.curvature @ plane, found.curvature)
    rows, cols = np.ogrid[: layout.shape[0], : layout.shape[1]]
    phase = plane[0] * rows + plane[1] * cols + _supported_phase(Splines(layout, probe), rest)
    return np.asarray(phase, dtype=np.float32)


def _supported_phase(splines: Splines, found: Slopes) -> NDArray[np.float64]:
    """The splines' part of phi (H, W), as far as two halves of the patterns agree on it."""
    (one, its), (other, others) = (splines.normal(found, index) for index in split_interleaved(len(found.gradient)))
    whole, right = one + other, its + others
    information = whole.diagonal().mean()
    best, chosen, gain = 0.0, splines.prior(0.0, information), 0.0
    for relative in BENDING:
        prior = splines.prior(relative, information)
        a, b = _solve(one + prior, its), _solve(other + prior, others)
        agreement, size = float(a @ others + b @ its), float(a @ (other @ a) + b @ (one @ b))
        if agreement > 0 and agreement**2 / size > best:
            best, chosen, gain = agreement**2 / size, prior, min(1.0, agreement / size)
    if not gain:
        return np.zeros(splines.layout.shape)
    # gain = S / (S + 2 N) of signal and noise, for a half; all patterns have half the noise: S / (S + N).
    return 2 * gain / (1 + gain) * splines.image(_solve(whole + chosen, right))


def _solve(matrix: Matrix, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """x of matrix x = right; the matrix is positive definite, so that no pivot is needed and its pattern may decide."""
    factors = linalg.splu(
        matrix.tocsc(), permc_spec='MMD_AT_PLUS_A', diag_pivot_thresh=0.0, options={'SymmetricMode': True}
    )
    return np.asarray(factors.solve(right))


@dataclass(frozen=True, eq=False)
class Splines:
    """Cubic B-splines on the canvas of a layout, products of one in rows and one in columns, and their slopes."""

    layout: Layout
    probe: NDArray[np.complex64]

    @cached_property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The splines in rows and in columns: (H, s), (W, t)."""
        pitch = max(energy_diameter(self.probe), CLOSEST_KNOTS * self.probe.shape[-1])
        found = []
        for size in self.layout.shape:
            knots = (np.arange(np.ceil(size / pitch) + 2 * DEGREE + 1) - DEGREE) * pitch - 0.5
            found.append(BSpline.design_matrix(np.arange(size, dtype=np.float64), knots, DEGREE).toarray())
        return found[0], found[1]

    def image(self, weights: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The sum of the splines with `weights` (s t,): (H, W)."""
        rows, cols = self.axes
        return np.asarray(rows @ weights.reshape(rows.shape[1], cols.shape[1]) @ cols.T)

    @cached_property
    def _seen(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Slope and mean of the splines of each axis in a window at each corner, weighted by the probe's marginals.

        Exact where abs(P)^2 is a product; the splines are as smooth as the probe is wide.
        """
        weight = (np.abs(self.probe) ** 2).sum(axis=0, dtype=np.float64)
        found = []
        for axis, splines in enumerate(self.axes):
            mean = weight.sum(axis=1 - axis) / weight.sum()
            x = np.arange(len(mean)) - np.arange(len(mean)) @ mean
            windows = np.lib.stride_tricks.sliding_window_view(splines, len(mean), axis=0)
            found.append((windows @ (mean * x / (mean @ x**2)), windows @ mean))
        return found

    def normal(self, found: Slopes, index: NDArray[np.int64]) -> tuple[Matrix, NDArray[np.float64]]:
        """S^T H S (s t, s t) and S^T b (s t,) of the patterns at `index`."""
        count = self.axes[0].shape[1] * self.axes[1].shape[1]
        matrix, right = Matrix((count, count)), np.zeros(count)
        for part in np.array_split(index, -(-len(index) // CHUNK)):
            (rows_slope, rows_mean), (cols_slope, cols_mean) = (
                (slope[corners], mean[corners])
                for (slope, mean), corners in zip(self._seen, self.layout.corners[part].T, strict=True)
            )
            seen = _products(rows_slope, cols_mean), _products(rows_mean, cols_slope)
            curvature = found.curvature[part]
            for i in (0, 1):
                right += seen[i].T @ found.gradient[part, i]
                for j in (0, 1):
                    matrix = matrix + seen[i].T @ (sparse.diags_array(curvature[:, i, j]) @ seen[j])
        return Matrix(matrix), right

    @cached_property
    def _bending(self) -> Matrix:
        """R: (s t, s t)."""
        s, t = (splines.shape[1] for splines in self.axes)
        parts = (
            sparse.kron(_differences(s, 2), sparse.eye_array(t)),
            sparse.kron(sparse.eye_array(s), _differences(t, 2)),
            np.sqrt(2) * sparse.kron(_differences(s, 1), _differences(t, 1)),
        )
        return Matrix(sum(part.T @ part for part in parts))

    def prior(self, relative: float, information: float) -> Matrix:
        """l R, with l `relative` to the mean information on a spline, and a ridge."""
        bending = self._bending
        ridge = RIDGE * information * sparse.eye_array(bending.shape[0])
        return Matrix(relative * information / bending.diagonal().mean() * bending + ridge)


def _products(rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Matrix:
    """Row by row the outer product of (n, s) and (n, t), flat: (n, s t)."""
    (at, these), (to, those) = _nonzero(rows), _nonzero(cols)
    index = at[:, :, None] * cols.shape[1] + to[:, None, :]
    values = these[:, :, None] * those[:, None, :]
    ends = np.arange(len(rows) + 1) * values[0].size
    return Matrix((values.ravel(), index.ravel(), ends), shape=(len(rows), rows.shape[1] * cols.shape[1]))


def _nonzero(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where rows (n, s) that vanish but for a short run do not, in runs of equal length: (n, q), and their values."""
    there = values != 0
    first, last = there.argmax(axis=1), values.shape[1] - there[:, ::-1].argmax(axis=1)
    length = int((last - first).max())
    index = np.minimum(first, values.shape[1] - length)[:, None] + np.arange(length)
    return index, np.take_along_axis(values, index, axis=1)


def _differences(count: int, order: int) -> sparse.dia_array:
    """The matrix of the `order`-th differences of `count` values."""
    terms = np.diff(np.eye(order + 1), n=order, axis=0)[0]
    return sparse.diags_array(terms, offsets=range(order + 1), shape=(count - order, count))
