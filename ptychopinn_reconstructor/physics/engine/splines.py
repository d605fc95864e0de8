"""Smooth functions on a canvas, as splines, and as much of them as two halves of the patterns agree on.

The maximum a posteriori of weights w with the information M and the score r of all patterns is (M + l R)^-1 r, R the
bending energy. Two interleaved halves of the patterns choose l and a gain: l is the one with which the function of
either half explains most of the other, and the gain follows from the share of it that they agree on, so that neither
noise nor what patterns do not have in common is taken for a signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.linalg import cho_factor, cho_solve, solveh_banded
from scipy.sparse import linalg

from ..arrays import NUMPY, Arrays, map_shared
from ..geometry import Layout
from ..probes import energy_diameter

BENDING = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # l, relative to the mean information on a spline
RIDGE = 1e-9  # of the same: holds what no pattern sees, such as a constant
DEGREE = 3  # of the splines
CLOSEST_KNOTS = 1 / 8  # of N: what a probe that is a point may ask for
DENSE_LIMIT = 1024  # weights up to which Cholesky is faster: 1.1 ms for 289, where the sparse factors take 14
# Unknowns of a narrow band are factored in a tenth of the time that sparse factors take (.05 s for 6,000 weights).
NARROW, LARGEST_BAND = 1 / 4, 2**25  # of all unknowns, its width; its entries: 256 MB
CHUNK = 4096  # patterns that are laid out at a time

Matrix = sparse.csr_array


class Normal(NamedTuple):
    """M (k, k) and r (k,) of some patterns."""

    matrix: Matrix
    right: NDArray[np.float64]


class Supported(NamedTuple):
    """Weights (k,), the gain within them, and by how much they lower twice the misfit of either half for the other."""

    weights: NDArray[np.float64]
    gain: float


def supported_weights(
    one: Normal, other: Normal, prior: Callable[[float, float], Matrix], arrays: Arrays = NUMPY
) -> Supported | None:
    """The weights that all patterns ask for, as far as two halves agree; None: in nothing.

    `prior` gives l R (k, k) of l relative to the mean information on a spline.
    """
    whole = one.matrix + other.matrix
    information = float(whole.diagonal().mean())
    held = [prior(relative, information) for relative in BENDING]
    tried = [(part.matrix + l_r, part.right) for l_r in held for part in (one, other)]
    solved = [*map_shared(lambda system: solve(*system), tried, arrays)]
    best, chosen, gain = 0.0, held[0], 0.0
    for l_r, a, b in zip(held, solved[::2], solved[1::2], strict=True):
        agreement = float(a @ other.right + b @ one.right)
        size = float(a @ (other.matrix @ a) + b @ (one.matrix @ b))
        if agreement > 0 and agreement**2 / size > best:
            best, chosen, gain = agreement**2 / size, l_r, min(1.0, agreement / size)
    if not gain:
        return None
    # gain = S / (S + 2 N) of signal and noise, for a half; all patterns have half the noise: S / (S + N).
    gain = 2 * gain / (1 + gain)
    return Supported(gain * solve(whole + chosen, one.right + other.right), gain)


def solve(matrix: Matrix, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """x of matrix x = right; the matrix is positive definite, so that no pivot is needed and its pattern may decide."""
    if len(right) <= DENSE_LIMIT:
        factor = cho_factor(matrix.toarray(), lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(cho_solve(factor, right, check_finite=False))
    band = _lower_band(matrix)
    if band is not None:
        return np.asarray(solveh_banded(band, right, overwrite_ab=True, lower=True, check_finite=False))
    factors = linalg.splu(
        matrix.tocsc(), permc_spec='MMD_AT_PLUS_A', diag_pivot_thresh=0.0, options={'SymmetricMode': True}
    )
    return np.asarray(factors.solve(right))


def _lower_band(matrix: Matrix) -> NDArray[np.float64] | None:
    """The lower half of a symmetric matrix by diagonals, as LAPACK takes it; None where that would be too large."""
    entries = matrix.tocoo()
    below = entries.row >= entries.col
    column, distance = entries.col[below], (entries.row - entries.col)[below]
    width = int(distance.max()) + 1
    if width > NARROW * matrix.shape[0] or width * matrix.shape[0] > LARGEST_BAND:
        return None
    band = np.zeros((width, matrix.shape[0]))
    band[distance, column] = entries.data[below]
    return band


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

    def slopes_at(self, index: NDArray[np.int64]) -> tuple[Matrix, Matrix]:
        """S: slope along rows and along columns of each spline as each pattern at `index` sees it, (n, s t) each."""
        (rows_slope, rows_mean), (cols_slope, cols_mean) = (
            (slope[corners], mean[corners])
            for (slope, mean), corners in zip(self._seen, self.layout.corners[index].T, strict=True)
        )
        return _products(rows_slope, cols_mean), _products(rows_mean, cols_slope)

    @property
    def count(self) -> int:
        """s t."""
        return int(self.axes[0].shape[1] * self.axes[1].shape[1])

    def normal(self, score: NDArray[np.float64], information: NDArray[np.float64], index: NDArray[np.int64]) -> Normal:
        """M and r of the patterns at `index`, from b = `score` (n, d, 2) and H = `information` (n, d, 2, d, 2) of the
        slopes [row, col] of d functions at once; their weights follow one another."""
        count, functions = self.count, score.shape[1]
        blocks = [[Matrix((count, count)) for _ in range(functions)] for _ in range(functions)]
        right = np.zeros((functions, count))
        for part in np.array_split(index, -(-len(index) // CHUNK)):
            seen = self.slopes_at(part)
            for f, i in np.ndindex(functions, 2):
                right[f] += seen[i].T @ score[part, f, i]
                for g in range(functions):
                    rows, cols = (_scale_rows(s, information[part, f, i, g, j]) for j, s in enumerate(seen))
                    blocks[f][g] += seen[i].T @ (rows + cols)
        return Normal(Matrix(sparse.block_array(blocks)), right.ravel())

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


def _scale_rows(matrix: Matrix, by: NDArray[np.float64]) -> Matrix:
    """diag(by) times a matrix."""
    return Matrix((matrix.data * np.repeat(by, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), matrix.shape)


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
