"""The background of the patterns: smooth and radial, hat functions of the distance from the zero frequency.

Its coefficients are not negative. Before the first pass, a background is suspected where the dark part of the patterns
does not vary from pattern to pattern as speckle does (`goodness_of_fit.measure_incoherent`). What is estimated after
the first pass is doubled: an object that has been fitted to a background forgets it slowly, but it never learns what
the background holds already, so that the estimate comes down to the truth faster than it climbs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..forward import unscattered_counts
from ..prepare import PreparedScan, even_batches
from ..scaling import mode_contrast
from ..scoring.goodness_of_fit import measure_incoherent
from .detector import DetectorSums

KNOTS = (0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 0.7072)  # of the hat functions, in N
SMOOTH = 0.02  # information that neighboring coefficients lie on a line, relative to the mean of theirs
FIRST_STEP = 2.0  # after the first pass
SWEEPS = 300  # over the coefficients: more than they need
SAMPLED_PATTERNS = 256  # evenly spaced in canonical order
BATCH = 32


def suspected_background(prepared: PreparedScan) -> NDArray[np.float32] | None:
    """A constant background (N, N) in counts, where the dark part of the patterns holds one; None where it does not.

    Nor in the near field, whose patterns are bright and vary little anyway.
    """
    if prepared.kernel is not None:
        return None
    index = np.unique(np.linspace(0, len(prepared) - 1, SAMPLED_PATTERNS).astype(np.int64))
    total, squares = np.zeros((2, prepared.n_pixels, prepared.n_pixels))
    for part in even_batches(index, BATCH):
        counts = prepared.counts(part)
        total += counts.sum(axis=0, dtype=np.float64)
        squares += np.einsum('nij,nij->ij', counts, counts, dtype=np.float64)
    unscattered = unscattered_counts(prepared.probe)
    coherent = mode_contrast(prepared.probe)
    found = measure_incoherent(total, squares, len(index), unscattered, prepared.good, coherent)
    return None if found is None else np.full(total.shape, found.per_pixel, dtype=np.float32)


def step_background(prepared: PreparedScan, sums: DetectorSums, length: float = 1.0) -> NDArray[np.float32]:
    """b (N, N) after a step of Fisher scoring from the scan's own, `length` times as long."""
    basis = radial_hats(prepared.n_pixels)
    now: NDArray[np.float64] = np.zeros(len(basis))
    if prepared.background is not None:
        flat = basis.reshape(len(basis), -1).T
        now = np.asarray(np.linalg.lstsq(flat, prepared.background.ravel(), rcond=None)[0], dtype=np.float64)
    seen = basis * prepared.good
    information = np.einsum('kij,lij,ij->kl', seen, seen, sums.pixel_information)
    score = np.einsum('kij,ij->k', seen, sums.pixel_score)
    bends = np.diff(np.eye(len(basis)), n=2, axis=0)
    stiffness = SMOOTH * np.trace(information) / len(basis) * bends.T @ bends
    found = solve_nonnegative(information + stiffness, information @ now + length * score)
    return np.tensordot(found, basis, 1).astype(np.float32)


def radial_hats(side: int) -> NDArray[np.float64]:
    """Hat functions (k, N, N) of the distance from the zero frequency; their sum is 1 everywhere."""
    x = (np.arange(side) - side // 2) / side
    distance = np.hypot(x[:, None], x)
    return np.stack([np.interp(distance, KNOTS, unit) for unit in np.eye(len(KNOTS))])


def solve_nonnegative(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 that minimizes x matrix x / 2 - right x, one coordinate at a time; `matrix` (k, k) is positive."""
    x = np.zeros(len(right))
    for _ in range(SWEEPS):
        for i, row in enumerate(matrix):
            x[i] = max(0.0, x[i] + (right[i] - row @ x) / max(row[i], 1e-12))
    return x


def background_share(prepared: PreparedScan) -> float:
    """The share of all counts that the scan's background has."""
    if prepared.background is None:
        return 0.0
    return min(
        1.0, float(prepared.background[prepared.good].sum(dtype=np.float64)) / max(prepared.scan.mean_counts, 1e-12)
    )
