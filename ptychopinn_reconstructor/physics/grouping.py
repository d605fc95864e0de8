"""Regions of overlapping patterns: who is trained together, who is held out for validation.

A region is a seed and its nearest neighbors: K = max(gridsize^2, neighbor_count + 1) patterns. All indices are in the
canonical order of `geometry.canonical_order`, so that they do not depend on the order of a file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..errors import ConfigError

Index = NDArray[np.int64]


class Split(NamedTuple):
    """Indices of the patterns to train on and of those held out; no pattern is in both."""

    training: Index
    validation: Index


def hold_out_all(n: int) -> Split:
    """The split of n patterns that only validate."""
    everything = np.arange(n, dtype=np.int64)
    return Split(everything[:0], everything)


def region_size(gridsize: int, neighbor_count: int) -> int:
    """Patterns of a region, K."""
    return max(gridsize**2, neighbor_count + 1)


def check_oversampling(n_groups: int | None, n_patterns: int, gridsize: int, neighbor_count: int) -> None:
    """Refuse more groups than patterns unless gridsize > 1 and neighbor_count >= gridsize^2 (ConfigError)."""
    if n_groups is None or n_groups <= n_patterns:
        return
    if gridsize == 1 or neighbor_count < gridsize**2:
        raise ConfigError(
            f'n_groups is {n_groups} but the scan has {n_patterns} patterns; more groups than patterns '
            f'need gridsize > 1 and neighbor_count >= gridsize^2 '
            f'(here gridsize {gridsize}, neighbor_count {neighbor_count}).'
        )


def nearest_neighbors(positions: NDArray[np.float64], seeds: Index, size: int) -> Index:
    """The `size` positions nearest to each seed, the seed first: (len(seeds), size) indices.

    Raises ConfigError when there are fewer positions than `size`.
    """
    if size > len(positions):
        raise ConfigError(
            f'A region needs {size} patterns but only {len(positions)} are there; lower gridsize or neighbor_count.'
        )
    _, found = cKDTree(positions).query(positions[seeds], k=[*range(1, size + 1)])
    found = np.asarray(found, dtype=np.int64)
    # Two patterns at one position may come back in either order: the seed belongs to its group and comes first.
    for row, seed in zip(found, seeds, strict=True):
        where = np.flatnonzero(row == seed)
        row[where[0] if len(where) else -1] = row[0] if len(where) else row[-1]
        row[0] = seed
    return found


def hold_out(positions: NDArray[np.float64], fraction: float, size: int, seed: int) -> Split:
    """Hold out `fraction` of the positions as one contiguous patch around a drawn one, at least one region.

    Nothing is held out when `fraction` is 0 or when fewer than three regions would remain to train on.
    """
    n = len(positions)
    count = max(size, round(fraction * n))
    everything = np.arange(n, dtype=np.int64)
    if fraction <= 0 or n - count < 3 * size:
        return Split(everything, everything[:0])
    anchor = positions[np.random.default_rng(seed).integers(n)]
    distance = np.round(np.linalg.norm(positions - anchor, axis=1), 6)
    chosen = np.lexsort((everything, distance))[:count]
    return Split(np.setdiff1d(everything, chosen), np.sort(chosen))


def covering_regions(positions: NDArray[np.float64], members: Index, size: int) -> Index:
    """Regions among `members` alone, about as many as cover each once: (len(members) // size, size)."""
    seeds = np.arange(0, len(members) - size + 1, size, dtype=np.int64)
    return members[nearest_neighbors(positions[members], seeds, size)]


def epoch_regions(
    positions: NDArray[np.float64],
    members: Index,
    size: int,
    *,
    n_groups: int | None,
    seed: int,
    epoch: int,
) -> Index:
    """The regions of one epoch among `members`: (n_groups, size), deterministic in (seed, epoch).

    n_groups None: len(members) // size of them. Over successive epochs every pattern is a seed equally often.
    """
    n = len(members)
    count = n_groups or max(1, n // size)
    turns = np.arange(epoch * count, (epoch + 1) * count)
    rounds = {int(i): np.random.default_rng([seed, int(i)]).permutation(n) for i in np.unique(turns // n)}
    seeds = np.array([rounds[int(t // n)][t % n] for t in turns], dtype=np.int64)
    return members[nearest_neighbors(positions[members], seeds, size)]
