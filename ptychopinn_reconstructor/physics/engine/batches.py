"""Batches of patterns that each sample the whole scan evenly.

Batches drawn by lot leave holes and clumps: a pixel of the object is then moved by no pattern or by several in one
batch, and the long-range phase sees a different part of the scan each time. Here the positions are put on a curve
that visits them by nested halves (along directions drawn anew for each pass), and every k-th of them makes a batch:
systematic sampling, for any arrangement of positions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def even_sampling(
    positions: NDArray[np.float64], count: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """`count` batches, in the order in which to take them, of indices into positions (n, 2), rising in each batch.

    Every position is in one batch; batches differ by at most one in size; `count` is at most n.
    """
    angle = generator.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    curve = _nested_halves(positions @ turn)
    return [np.sort(curve[start::count]) for start in generator.permutation(count)]


def _nested_halves(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of positions (n, 2) in the order of repeated halving, each time across the longer side."""
    order, sizes = np.arange(len(positions), dtype=np.int64), np.array([len(positions)])
    while (sizes > 1).any():  # all parts at once; a part keeps its place and those that are halved their order
        inside, starts = positions[order], np.cumsum(sizes) - sizes
        extent = np.maximum.reduceat(inside, starts) - np.minimum.reduceat(inside, starts)
        part = np.repeat(np.arange(len(sizes)), sizes)
        longer = (extent[:, 1] > extent[:, 0]).astype(np.int64)[part]
        along = np.take_along_axis(inside, longer[:, None], axis=1)[:, 0]
        order = order[np.lexsort((along, part))]
        halves = np.stack([sizes // 2, sizes - sizes // 2], axis=1).ravel()
        sizes = halves[halves > 0]
    return order
