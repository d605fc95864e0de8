"""Contributions of patches on several processes: each has those of its part, and fetches the few that overlap them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..processes import Processes, own_part


def fetch_partners(u: Any, pairs: NDArray[np.int64], rows: NDArray[np.int64] | None, processes: Processes) -> range:
    """Which of the pairs (p, 2), sorted, this process does: those whose first patch is its own.

    Where their second patches are others' own, they are fetched: u (patches, n, n) is written to. Patch i is
    u[rows[i]], by default u[i].
    """
    if processes.total == 1:
        return range(len(pairs))
    own, stored = own_part(len(u), processes), pairs if rows is None else rows[pairs]
    begin, end = np.searchsorted(stored[:, 0], [own.start, own.stop])
    partners = np.unique(stored[begin:end, 1])
    wanted = np.unique(np.concatenate(processes.gather(partners[~_is_in(partners, own)])))
    given = wanted[_is_in(wanted, own)]
    for theirs, values in processes.gather((given, u[given])):
        needed = np.flatnonzero(~_is_in(theirs, own))
        for run in np.split(needed, np.flatnonzero(np.diff(theirs[needed]) != 1) + 1):  # as files are written
            u[theirs[run]] = values[run]
    return range(int(begin), int(end))


def select_own(
    batches: Iterable[NDArray[np.int64]], rows: NDArray[np.int64], total: int, processes: Processes
) -> Iterator[NDArray[np.int64]]:
    """Of each batch the patches that are this process's own, where it has any; patch i is row `rows[i]` of `total`."""
    own = own_part(total, processes)
    for index in batches:
        ours = index[_is_in(rows[index], own)]
        if len(ours):
            yield ours


def _is_in(numbers: NDArray[np.int64], part: range) -> NDArray[np.bool_]:
    return (numbers >= part.start) & (numbers < part.stop)
