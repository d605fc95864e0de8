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
    waiting, order = [np.arange(len(positions), dtype=np.int64)], []
    while waiting:
        part = waiting.pop()
        if len(part) < 2:
            order.append(part)
            continue
        inside = positions[part]
        axis = int(np.ptp(inside[:, 1]) > np.ptp(inside[:, 0]))
        ranked = part[np.argsort(inside[:, axis], kind='stable')]
        waiting += [ranked[len(ranked) // 2 :], ranked[: len(ranked) // 2]]
    return np.concatenate(order)
