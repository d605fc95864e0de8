"""From patches to one object: phase synchronization, then a streaming weighted sum on the canvas.

A patch o_i (n, n) lives in the probe's own frame and has a global phase that its pattern cannot tell. With the weight
w = sum over modes of abs(P)^2, cropped to n x n, its contribution on the canvas is u_i = shift(w o_i, f_i) at corner
r_i + (N - n)/2.

Synchronization: c_ij = <u_i, u_j> over the overlap of neighbors; a maximum-weight spanning tree gives first phases, two
least-squares steps on the wrapped rest refine them. Canvas = (sum u + eps) / (sum abs(P_f)^2 + eps), P_f the shifted
probe and eps = 1e-3 max w, so that it is 1 where nothing illuminates. The global phase is fixed so that the weighted
mean of the canvas is real and positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph, linalg
from scipy.spatial import cKDTree

from ..arrays import NUMPY, Arrays
from ..forward import shift_probe
from ..geometry import Layout, fourier_shift, scatter_patches
from ..scaling import crop_support
from .disagreement import Disagreement

EPSILON_WEIGHT = 1e-3  # of the largest probe intensity: below it a canvas pixel tends to 1
LEAST_SQUARES_STEPS = 2
PAIR_PIXELS = 2**18  # complex pixels of the patches whose overlaps are taken at a time
DIRECT_LIMIT = 20_000  # unknowns up to which the sparse system is factorized; conjugate gradients beyond


def probe_weight(probe: NDArray[Any], n: int) -> NDArray[np.float32]:
    """w: sum over modes of abs(P)^2, central n x n; probe (modes, N, N)."""
    return crop_support((np.abs(probe) ** 2).sum(axis=0), n).astype(np.float32)


def contributions(
    patches: NDArray[Any], weight: NDArray[np.float32], fractions: NDArray[np.floating[Any]]
) -> NDArray[np.complex64]:
    """u = shift(w o, f): patches (b, n, n) in the probe's frame to the canvas grid.

    Shifted in double precision: the rounding noise of a single-precision FFT is a fraction of the brightest pixel, and
    where little light falls the canvas divides it by a thousandth of that.
    """
    weighted = (weight * patches).astype(np.complex128)
    return fourier_shift(weighted, np.asarray(fractions, dtype=np.float64)).astype(np.complex64)


def shifted_weight(probe: NDArray[np.complex64], fractions: NDArray[np.floating[Any]], n: int) -> NDArray[np.float32]:
    """Sum over modes of abs(P_f)^2, central n x n, for each offset (b, 2): (b, n, n), never negative."""
    shifted = shift_probe(probe, np.asarray(fractions, dtype=np.float64))
    return np.asarray(crop_support((shifted.real**2 + shifted.imag**2).sum(axis=1), n), dtype=np.float32)


def neighbor_pairs(corners: NDArray[np.int64], neighbors: int, n: int) -> NDArray[np.int64]:
    """Pairs (p, 2), i < j, of patches of n pixels that overlap and are among each other's nearest `neighbors`."""
    count = min(neighbors + 1, len(corners))
    if count < 2:
        return np.empty((0, 2), dtype=np.int64)
    _, found = cKDTree(corners).query(corners, k=count)
    pairs = np.stack([np.repeat(np.arange(len(corners)), count), found.ravel()], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)
    distance = np.abs(corners[pairs[:, 0]] - corners[pairs[:, 1]])
    kept: NDArray[np.int64] = pairs[(pairs[:, 0] != pairs[:, 1]) & (distance < n).all(axis=1)]
    return kept


def overlaps(
    u: NDArray[Any],
    corners: NDArray[np.int64],
    pairs: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
    arrays: Arrays = NUMPY,
) -> NDArray[np.complex128]:
    """c_ij of all pairs (p,); patch i is u[rows[i]], by default u[i]."""
    offsets = corners[pairs[:, 1]] - corners[pairs[:, 0]]
    there = pairs if rows is None else rows[pairs]

    def compute(block: slice) -> NDArray[Any]:
        return _overlaps(u, there[block], offsets[block])

    size = max(1, PAIR_PIXELS // u[0].size)
    blocks = [slice(begin, begin + size) for begin in range(0, len(pairs), size)]
    return np.concatenate([np.empty(0, np.complex128), *arrays.map_blocks(compute, blocks)])


def _overlaps(u: NDArray[Any], pairs: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[Any]:
    """<u_i, u_j> of pairs (p, 2), where patch j begins at `offsets` (p, 2) from patch i."""
    n, margin = u.shape[-1], int(np.abs(offsets).max())
    used, place = np.unique(pairs, return_inverse=True)
    first, second = place.reshape(pairs.shape).T
    # Pixel a of patch i is pixel a - offset of patch j, which is zero outside.
    wide = np.zeros((len(used), n + 2 * margin, n + 2 * margin), dtype=u.dtype)
    inner = slice(margin, margin + n)
    wide[:, inner, inner] = u[used]
    windows = np.lib.stride_tricks.sliding_window_view(wide, (n, n), axis=(1, 2))
    others = windows[second, margin - offsets[:, 0], margin - offsets[:, 1]]
    return np.asarray(np.einsum('pab,pab->p', wide[first, inner, inner].conj(), others))


def synchronizing_phases(c: NDArray[np.complex128], pairs: NDArray[np.int64], n_patches: int) -> NDArray[np.float64]:
    """Phases (n,) that patches carry relative to each other: multiply patch i by exp(-i phase_i) to align them."""
    if not len(pairs) or not np.abs(c).max() > 0:
        return np.zeros(n_patches)
    weight = np.maximum(np.abs(c) / np.abs(c).max(), 1e-12)
    phases = _tree_phases(np.angle(c), weight, pairs, n_patches)
    for _ in range(LEAST_SQUARES_STEPS):
        rest = np.angle(c * np.exp(1j * (phases[pairs[:, 0]] - phases[pairs[:, 1]])))
        phases = phases + _least_squares(rest, weight, pairs, n_patches)
    return phases


def _tree_phases(
    angle: NDArray[np.float64], weight: NDArray[np.float64], pairs: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """Phases along the maximum-weight spanning tree of every connected part."""
    i, j = pairs.T
    tree = csgraph.minimum_spanning_tree(sparse.coo_array((2.0 - weight, (i, j)), shape=(n, n)).tocsr())
    difference = sparse.coo_array(
        (np.concatenate([angle, -angle]), (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(n, n)
    ).tocsr()
    phases = np.zeros(n)
    _, part = csgraph.connected_components(tree, directed=False)
    for root in np.unique(part, return_index=True)[1]:
        order, parent = csgraph.breadth_first_order(tree, int(root), directed=False)
        if len(order) == 1:  # a patch that nothing overlaps; sparse arrays take no empty index
            continue
        step = np.asarray(difference[parent[order[1:]], order[1:]]).ravel()
        for node, delta in zip(order[1:].tolist(), step.tolist(), strict=True):
            phases[node] = phases[parent[node]] + delta
    return phases


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
    normal = (difference.T @ (difference * weight[:, None]) + 1e-9 * sparse.eye_array(n)).tocsc()
    right = difference.T @ (weight * rest)
    if n <= DIRECT_LIMIT:
        return np.asarray(linalg.spsolve(normal, right))
    jacobi = sparse.diags_array(1.0 / normal.diagonal())
    solution, _ = linalg.cg(normal.tocsr(), right, rtol=1e-10, maxiter=5000, M=jacobi)
    return np.asarray(solution)


@dataclass(eq=False)
class Stitcher:
    """Collects contributions on a canvas, batch by batch; `canvas` can be asked for at any time.

    `layout` is of N-pixel windows; `probe` (modes, N, N) weighs the patches of `n` pixels. With `spread`, how far
    overlapping patches disagree is collected too: `deviation`.
    """

    layout: Layout
    probe: NDArray[np.complex64]
    n: int
    spread: bool = False
    _sum: NDArray[np.complex64] = field(init=False)
    _weight: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self._sum = np.zeros(self.layout.shape, dtype=np.complex64)
        self._weight = np.zeros(self.layout.shape, dtype=np.float32)
        self._eps = EPSILON_WEIGHT * float(probe_weight(self.probe, self.n).max())
        self._spread = Disagreement(self.layout.shape, self._eps) if self.spread else None

    def add(self, u: NDArray[Any], index: NDArray[np.int64], phases: NDArray[np.float64] | None = None) -> None:
        """Add contributions (b, n, n) of the patches at `index`, turned by -phases."""
        self.prepare(u, index, phases)()

    def prepare(
        self, u: NDArray[Any], index: NDArray[np.int64], phases: NDArray[np.float64] | None = None
    ) -> Callable[[], None]:
        """What adds contributions as `add` does; until then nothing is changed."""
        inset = (self.probe.shape[-1] - self.n) // 2
        if phases is not None:
            u = u * np.exp(-1j * phases)[:, None, None].astype(np.complex64)
        corners, weight = self.layout.corners[index], shifted_weight(self.probe, self.layout.fractions[index], self.n)
        spread = None if self._spread is None else self._spread.prepare(u, weight, corners, inset)

        def add() -> None:
            scatter_patches(self._sum, u, corners, inset)
            scatter_patches(self._weight, weight, corners, inset)
            if spread is not None:
                spread()

        return add

    @property
    def weight(self) -> NDArray[np.float32]:
        """Sum of the weights so far, (H, W), in counts."""
        return self._weight

    def canvas(self, scale: float = 1.0) -> NDArray[np.complex64]:
        """The object so far, (H, W), times `scale`: 1 where nothing has been added; its weighted mean is real, > 0."""
        eps = np.float32(self._eps)
        mean = complex(self._sum.sum(dtype=np.complex128))
        turned = self._sum * np.complex64(scale * (np.conj(mean) / abs(mean) if abs(mean) > 0 else 1.0))
        return np.asarray((turned + eps) / (self._weight + eps), dtype=np.complex64)

    def deviation(self, scale: float = 1.0) -> NDArray[np.float32] | None:
        """Standard deviation of the patches about the object, (H, W), times `scale`; NaN where fewer than two meet.

        None unless `spread` was asked for.
        """
        return None if self._spread is None else self._spread.deviation(scale)


def stitch_patches(
    u: NDArray[np.complex64],
    layout: Layout,
    probe: NDArray[np.complex64],
    *,
    neighbors: int,
    batches: Iterable[NDArray[np.int64]],
    rows: NDArray[np.int64] | None = None,
    spread: bool = False,
    arrays: Arrays = NUMPY,
) -> Stitcher:
    """Synchronize contributions and add them up, with their `spread`.

    `u` (patches, n, n), possibly memory-mapped, holds that of patch i of the layout at `rows[i]`, by default at i.
    """
    rows = np.arange(len(u)) if rows is None else rows
    phases = np.zeros(len(rows))
    if neighbors:
        pairs = neighbor_pairs(layout.corners, neighbors, u.shape[-1])
        phases = synchronizing_phases(overlaps(u, layout.corners, pairs, rows, arrays), pairs, len(rows))
    stitcher = Stitcher(layout, probe, u.shape[-1], spread)
    for add in arrays.map_blocks(lambda index: stitcher.prepare(u[rows[index]], index, phases[index]), batches):
        add()
    return stitcher
