"""From patches to one object: phase synchronization, then a streaming weighted sum on the canvas.

A patch o_i (n, n) lives in the probe's own frame and has a global phase that its pattern cannot tell. With the weight
w = sum over modes of abs(P)^2, cropped to n x n, its contribution on the canvas is u_i = shift(w o_i, f_i) at corner
r_i + (N - n)/2.

Synchronization: c_ij = <u_i, u_j> over the overlap of neighbors, whose phases `synchronizing` settles.
Canvas = (sum u + eps) / (sum abs(P_f)^2 + eps), P_f the shifted probe and eps = 1e-3 max w, so that it is 1 where
nothing illuminates. The global phase is fixed so that the weighted mean of the canvas is real and positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..arrays import NUMPY, Arrays, sum_axis
from ..geometry import Layout, scatter_patches, shift_ramp
from ..processes import Processes
from ..scaling import crop_support
from .disagreement import Disagreement
from .partners import fetch_partners, select_own
from .synchronizing import synchronizing_phases, torn_share

EPSILON_WEIGHT = 1e-3  # of the largest probe intensity: below it a canvas pixel tends to 1
PAIR_PIXELS = 2**18  # complex pixels of the patches whose overlaps are taken at a time
TREE_BLOCK = 2**14  # patches whose neighbors are looked for at a time


def probe_weight(probe: NDArray[Any], n: int) -> NDArray[np.float32]:
    """w: sum over modes of abs(P)^2, central n x n; probe (modes, N, N)."""
    return crop_support((np.abs(probe) ** 2).sum(axis=0), n).astype(np.float32)


def contributions(
    patches: NDArray[Any],
    weight: NDArray[np.float32],
    fractions: NDArray[np.floating[Any]],
    arrays: Arrays = NUMPY,
) -> NDArray[np.complex64]:
    """u = shift(w o, f): patches (b, n, n) in the probe's frame to the canvas grid.

    Shifted in double precision: the rounding noise of a single-precision FFT is a fraction of the brightest pixel, and
    where little light falls the canvas divides it by a thousandth of that.
    """
    spectrum = arrays.fft2((weight * patches).astype(np.complex128))
    spectrum *= shift_ramp(np.asarray(fractions, dtype=np.float64), patches.shape[-1])
    return np.asarray(arrays.ifft2(spectrum), dtype=np.complex64)


def shifted_weight(
    probe: NDArray[np.complex64], fractions: NDArray[np.floating[Any]], n: int, arrays: Arrays = NUMPY
) -> NDArray[np.float32]:
    """Sum over modes of abs(P_f)^2, central n x n, for each offset (b, 2): (b, n, n), never negative."""
    ramp = shift_ramp(np.asarray(fractions, dtype=np.float64), probe.shape[-1])
    shifted = crop_support(arrays.ifft2(arrays.fft2(probe.copy()) * ramp[:, None]), n)
    return np.asarray(sum_axis(shifted.real**2 + shifted.imag**2, 1), dtype=np.float32)


def neighbor_pairs(corners: NDArray[np.int64], neighbors: int, n: int) -> NDArray[np.int64]:
    """Pairs (p, 2), i < j, of patches of n pixels that overlap and are among each other's nearest `neighbors`."""
    total = len(corners)
    count = min(neighbors + 1, total)
    if count < 2:
        return np.empty((0, 2), dtype=np.int64)
    tree = cKDTree(corners)
    # Each pair as one number, block by block: a scan has a dozen of them a patch.
    blocks = [_pairs_from(slice(i, i + TREE_BLOCK), tree, corners, count, n) for i in range(0, total, TREE_BLOCK)]
    numbers = np.unique(np.concatenate(blocks))
    return np.stack(np.divmod(numbers, total), axis=1)


def _pairs_from(block: slice, tree: cKDTree, corners: NDArray[np.int64], count: int, n: int) -> NDArray[np.int64]:
    """Numbers i patches + j, i < j, of the pairs of the patches in a block, increasing."""
    _, found = tree.query(corners[block], k=count)
    own = np.arange(len(corners))[block, None]
    apart = np.abs(corners[found] - corners[block, None])
    kept = (found != own) & (apart < n).all(axis=2)
    return np.unique((np.minimum(own, found) * len(corners) + np.maximum(own, found))[kept])


def overlaps(
    u: NDArray[Any],
    corners: NDArray[np.int64],
    pairs: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
    arrays: Arrays = NUMPY,
) -> NDArray[np.complex128]:
    """c_ij of all pairs (p,), sorted; patch i is u[rows[i]], by default u[i].

    Each of several processes need only have its part of u, which those of others are added to that it takes.
    """

    def compute(block: slice) -> tuple[slice, NDArray[Any]]:
        part = pairs[block]
        return block, _overlaps(u, part if rows is None else rows[part], corners[part[:, 1]] - corners[part[:, 0]])

    size, processes = max(1, PAIR_PIXELS // math.prod(u.shape[1:])), arrays.processes
    own = fetch_partners(u, pairs, rows, processes)
    c = np.empty(len(pairs), np.complex128)
    for block, found in arrays.map_blocks(compute, (slice(i, min(i + size, own.stop)) for i in own[::size])):
        c[block] = found
    return c if processes.total == 1 else np.concatenate(processes.gather(c[own.start : own.stop]))


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


@dataclass(eq=False)
class Stitcher:
    """Collects contributions on a canvas, batch by batch; `canvas` can be asked for at any time.

    `layout` is of N-pixel windows; `probe` (modes, N, N) weighs the patches of `n` pixels. With `spread`, how far
    overlapping patches disagree is collected too: `deviation`. `torn` is how much of their overlaps synchronization has
    left apart (`torn_share`).
    """

    layout: Layout
    probe: NDArray[np.complex64]
    n: int
    spread: bool = False
    torn: float = 0.0
    arrays: Arrays = NUMPY
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
        corners, fractions = self.layout.corners[index], self.layout.fractions[index]
        weight = shifted_weight(self.probe, fractions, self.n, self.arrays)
        spread = None if self._spread is None else self._spread.prepare(u, weight, corners, inset)

        def add() -> None:
            scatter_patches(self._sum, u, corners, inset)
            scatter_patches(self._weight, weight, corners, inset)
            if spread is not None:
                spread()

        return add

    def merge(self, processes: Processes) -> None:
        """Make what this process has collected that of all of them."""
        for values in (self._sum, self._weight, *(() if self._spread is None else self._spread.sums)):
            processes.add_up(values)

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
    u: Any,
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

    `u` (patches, n, n), an array or read on demand, holds that of patch i of the layout at `rows[i]`, by default at i.
    Of several processes each has the rows of its own part (`own_part`).
    """
    rows = np.arange(len(layout.corners)) if rows is None else rows
    phases, torn = np.zeros(len(rows)), 0.0
    if neighbors:
        pairs = neighbor_pairs(layout.corners, neighbors, u.shape[-1])
        c = overlaps(u, layout.corners, pairs, rows, arrays)
        phases = synchronizing_phases(c, pairs, len(rows))
        torn = torn_share(c, pairs, phases)
    stitcher = Stitcher(layout, probe, u.shape[-1], spread, torn, arrays)
    own = select_own(batches, rows, len(u), arrays.processes)
    for add in arrays.map_blocks(lambda index: stitcher.prepare(u[rows[index]], index, phases[index]), own):
        add()
    stitcher.merge(arrays.processes)
    return stitcher
