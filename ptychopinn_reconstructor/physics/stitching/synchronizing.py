"""The phases that patches carry relative to each other, from the inner products of those that overlap.

| symbol | meaning                                                                    | unit     |
|--------|----------------------------------------------------------------------------|----------|
| c_ij   | <u_i, u_j> over the overlap of patches i and j: abs(c) is how much it tells | counts^2 |
| phi_i  | phase of patch i; arg c_ij = phi_j - phi_i but for noise                    | radians  |

Parts of patches that are aligned among themselves are merged into larger ones, each with the part that it shares most
with, by the sum of all c between the two (Boruvka's algorithm for a spanning tree, but with overlaps that grow with the
parts). The noise of a step falls as the parts grow, where along a tree of single pairs it adds up: .1 rad a pair, and a
tree is lost from 16,384 patches on, its branches meeting with jumps of whole turns that least squares keep. Steps of
weighted least squares on the wrapped rest then settle all pairs at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

LEAST_SQUARES_STEPS = 2
TOLERANCE, ITERATIONS = 1e-8, 5000  # of conjugate gradients, relative to the right-hand side
QUARTER_TURN = np.pi / 2


def synchronizing_phases(c: NDArray[np.complex128], pairs: NDArray[np.int64], n_patches: int) -> NDArray[np.float64]:
    """Phases (n,) that patches carry relative to each other: multiply patch i by exp(-i phase_i) to align them.

    `c` (p,) of the pairs (p, 2), each once.
    """
    if not len(pairs) or not np.abs(c).max() > 0:
        return np.zeros(n_patches)
    weight = np.maximum(np.abs(c) / np.abs(c).max(), 1e-12)
    phases = _merge_parts(c, pairs, n_patches)
    for _ in range(LEAST_SQUARES_STEPS):
        phases = phases + _least_squares(np.angle(_align(c, pairs, phases)), weight, pairs, n_patches)
    return phases


def torn_share(c: NDArray[np.complex128], pairs: NDArray[np.int64], phases: NDArray[np.float64]) -> float:
    """The part of sum abs(c) in pairs that synchronized patches leave by more than a quarter turn apart."""
    total = float(np.abs(c).sum())
    torn = np.abs(np.angle(_align(c, pairs, phases))) > QUARTER_TURN
    return float(np.abs(c[torn]).sum()) / total if total > 0 else 0.0


def _align(c: NDArray[np.complex128], pairs: NDArray[np.int64], phases: NDArray[np.float64]) -> NDArray[np.complex128]:
    return np.asarray(c * np.exp(1j * (phases[pairs[:, 0]] - phases[pairs[:, 1]])))


def _merge_parts(c: NDArray[np.complex128], pairs: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    phases, part = np.zeros(n), np.arange(n)
    while (apart := part[pairs[:, 0]] != part[pairs[:, 1]]).any():
        shared = _shared_between(_align(c, pairs, phases)[apart], part[pairs[apart]], int(part.max()) + 1)
        joined, turned = _join(*shared)
        phases += turned[part]
        part = joined[part]
    return phases


def _shared_between(
    c: NDArray[np.complex128], parts: NDArray[np.int64], count: int
) -> tuple[NDArray[np.complex128], NDArray[np.int64], int]:
    """Sums of c over all pairs of the same two of `count` parts, and these, (q, 2), the lower first."""
    swapped = parts[:, 0] > parts[:, 1]
    low, high = np.where(swapped[:, None], parts[:, ::-1], parts).T
    summed = sparse.coo_array((np.where(swapped, c.conj(), c), (low, high)), shape=(count, count)).tocsr().tocoo()
    return summed.data, np.stack([summed.row, summed.col], axis=1), count


def _join(
    c: NDArray[np.complex128], parts: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each part joined with the one that it shares most with: number of the new part and phase in it, both (count,)."""
    order = np.argsort(np.abs(c), kind='stable')
    most = np.full(count, -1)
    most[parts[order].ravel()] = np.repeat(order, 2)  # of repeated places the last one counts: the largest
    own = np.flatnonzero(most >= 0)
    pair = most[own]
    is_high = parts[pair, 1] == own
    parent, phases = np.arange(count), np.zeros(count)
    parent[own] = np.where(is_high, parts[pair, 0], parts[pair, 1])
    phases[own] = np.where(is_high, 1, -1) * np.angle(c[pair])
    root = (parent[parent] == np.arange(count)) & (np.arange(count) <= parent)  # two that chose each other
    parent[root], phases[root] = np.flatnonzero(root), 0
    while not np.array_equal(grandparent := parent[parent], parent):
        phases, parent = phases + phases[parent], grandparent
    return np.unique(parent, return_inverse=True)[1], phases


def _least_squares(
    rest: NDArray[np.float64], weight: NDArray[np.float64], pairs: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """Corrections that make phase_j - phase_i = rest_ij in the weighted least-squares sense."""
    i, j = pairs.T
    rows = np.arange(len(pairs))
    difference = sparse.coo_array(
        (np.concatenate([np.ones(len(j)), -np.ones(len(i))]), (np.concatenate([rows, rows]), np.concatenate([j, i]))),
        shape=(len(pairs), n),
    ).tocsr()
    normal = (difference.T @ (difference * weight[:, None]) + 1e-9 * sparse.eye_array(n)).tocsr()
    right = difference.T @ (weight * rest)
    jacobi = sparse.diags_array(1.0 / normal.diagonal())
    solution, left_over = linalg.cg(normal, right, rtol=TOLERANCE, maxiter=ITERATIONS, M=jacobi)
    if left_over:  # too slow: factorized, whatever it takes
        solution = linalg.spsolve(normal.tocsc(), right)
    return np.asarray(solution)
