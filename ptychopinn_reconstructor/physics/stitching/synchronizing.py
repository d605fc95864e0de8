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

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

LEAST_SQUARES_STEPS = 2
TOLERANCE, ITERATIONS = 1e-8, 5000  # of conjugate gradients, relative to the right-hand side
BLOCK = 2**18  # pairs that are looked at at a time
RIDGE = 1e-9  # of the largest weight
QUARTER_TURN = np.pi / 2


def synchronizing_phases(c: NDArray[np.complex128], pairs: NDArray[np.int64], n_patches: int) -> NDArray[np.float64]:
    """Phases (n,) that patches carry relative to each other: multiply patch i by exp(-i phase_i) to align them.

    `c` (p,) of the pairs (p, 2), each once.
    """
    if not len(pairs) or not np.abs(c).max() > 0:
        return np.zeros(n_patches)
    phases = _merge_parts(c, pairs, n_patches)
    weight = np.abs(c)
    weight /= weight.max()
    np.maximum(weight, 1e-12, out=weight)
    normal = _normal_matrix(weight, pairs, n_patches)
    for _ in range(LEAST_SQUARES_STEPS):
        phases = phases + _solve(normal, _weighted_rest(c, weight, pairs, phases))
    return phases


def torn_share(c: NDArray[np.complex128], pairs: NDArray[np.int64], phases: NDArray[np.float64]) -> float:
    """The part of sum abs(c) in pairs that synchronized patches leave by more than a quarter turn apart."""
    size = np.abs(c)
    total = float(size.sum())
    torn = np.concatenate([np.abs(np.angle(aligned)) > QUARTER_TURN for _, aligned in _align(c, pairs, phases)])
    return float(size[torn].sum()) / total if total > 0 else 0.0


def _align(
    c: NDArray[np.complex128], pairs: NDArray[np.int64], phases: NDArray[np.float64]
) -> Iterator[tuple[slice, NDArray[np.complex128]]]:
    """c exp(i (phase_i - phase_j)), block by block, since a scan has a dozen pairs a patch."""
    for start in range(0, max(len(c), 1), BLOCK):
        block = slice(start, start + BLOCK)
        turn = phases[pairs[block, 0]] - phases[pairs[block, 1]]
        yield block, np.asarray(c[block] * np.exp(1j * turn))


def _merge_parts(c: NDArray[np.complex128], pairs: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    phases, part = np.zeros(n), np.arange(n, dtype=np.int32)
    while True:
        shared = _shared_between(c, pairs, phases, part)
        if shared is None:
            return phases
        joined, turned = _join(*shared, int(part.max()) + 1)
        del shared  # before the next ones are made
        phases += turned[part]
        part = joined[part]


def _shared_between(
    c: NDArray[np.complex128], pairs: NDArray[np.int64], phases: NDArray[np.float64], part: NDArray[np.int32]
) -> tuple[NDArray[np.complex128], NDArray[np.int32]] | None:
    """Sums of c over all pairs of the same two parts, and these, (2, q), the lower first; None where all is one."""
    ends = np.stack([part[pairs[:, 0]], part[pairs[:, 1]]])
    apart = ends[0] != ends[1]
    if not apart.any():
        return None
    ends = ends[:, apart]
    aligned, done = np.empty(ends.shape[1], np.complex128), 0
    for block, found in _align(c, pairs, phases):
        kept = found[apart[block]]
        aligned[done : done + len(kept)] = kept
        done += len(kept)
    np.conjugate(aligned, out=aligned, where=ends[0] > ends[1])
    ends.sort(axis=0)
    summed = sparse.coo_array((aligned, tuple(ends)), shape=(int(part.max()) + 1,) * 2).tocsr()
    del aligned, ends  # as large as what has become of them
    entries = summed.tocoo(copy=False)
    return entries.data, np.stack([entries.row, entries.col])


def _join(
    c: NDArray[np.complex128], parts: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Each part joined with the one that it shares most with: number of the new part and phase in it, both (count,)."""
    order = np.argsort(np.abs(c), kind='stable')
    largest = np.full((2, count), -1)
    for end, found in zip(parts, largest, strict=True):
        found[end[order]] = np.arange(len(order))  # of repeated places the last one counts: the largest
    rank = largest.max(axis=0)
    own = np.flatnonzero(rank >= 0)
    pair = order[rank[own]]
    is_high = parts[1, pair] == own
    parent, phases = np.arange(count), np.zeros(count)
    parent[own] = np.where(is_high, parts[0, pair], parts[1, pair])
    phases[own] = np.where(is_high, 1, -1) * np.angle(c[pair])
    root = (parent[parent] == np.arange(count)) & (np.arange(count) <= parent)  # two that chose each other
    parent[root], phases[root] = np.flatnonzero(root), 0
    while not np.array_equal(grandparent := parent[parent], parent):
        phases, parent = phases + phases[parent], grandparent
    return np.unique(parent, return_inverse=True)[1].astype(np.int32), phases


def _normal_matrix(weight: NDArray[np.float64], pairs: NDArray[np.int64], n: int) -> sparse.csr_array:
    """D^T W D (n, n) of the differences D of phases, phase_j - phase_i of each pair, and a ridge for their mean."""
    upper = sparse.csr_array(sparse.coo_array((-weight, tuple(pairs.astype(np.int32).T)), shape=(n, n)))
    lower = upper.T.tocsr()
    diagonal = np.zeros(n)
    for start in range(0, len(pairs), BLOCK):
        block = slice(start, start + BLOCK)
        np.add.at(diagonal, pairs[block].ravel(), np.repeat(weight[block], 2))
    upper = upper + sparse.diags_array(diagonal + RIDGE).tocsr()
    return sparse.csr_array(lower + upper)


def _weighted_rest(
    c: NDArray[np.complex128], weight: NDArray[np.float64], pairs: NDArray[np.int64], phases: NDArray[np.float64]
) -> NDArray[np.float64]:
    """D^T W times what the phases leave of arg c, (n,)."""
    found = np.zeros(len(phases))
    for block, aligned in _align(c, pairs, phases):
        rest = weight[block] * np.angle(aligned)
        np.add.at(found, pairs[block].ravel(), np.stack([-rest, rest], axis=1).ravel())
    return found


def _solve(normal: sparse.csr_array, right: NDArray[np.float64]) -> NDArray[np.float64]:
    jacobi = sparse.diags_array(1.0 / normal.diagonal())
    solution, left_over = linalg.cg(normal, right, rtol=TOLERANCE, maxiter=ITERATIONS, M=jacobi)
    if left_over:  # too slow: factorized, whatever it takes
        solution = linalg.spsolve(normal.tocsc(), right)
    return np.asarray(solution)
