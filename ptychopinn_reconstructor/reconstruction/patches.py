"""patches.h5: the network's patches before they are stitched, for whoever wants to look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..io.hdf5_writing import write_hdf5

if TYPE_CHECKING:
    from ..physics.prepare import PreparedScan

NAME = 'patches.h5'
Keep = Callable[[NDArray[np.int64], NDArray[np.complex64]], None]


@contextmanager
def kept_patches(path: Path | None, prepared: PreparedScan, n: int) -> Iterator[Keep]:
    """A function that keeps patches (b, n, n) of the patterns at an index in canonical order; None: it keeps nothing.

    The file holds `patches` (patterns, n, n) complex64 in the probe's frame, each with the phase that the network gave
    it, `positions` (patterns, 2) [row, column] of their centers in object pixels, and `pattern`, the number of each in
    the scan file. It gets its name when it is complete.
    """
    if path is None:
        yield lambda index, patches: None
        return

    with write_hdf5(path) as file:
        file['positions'], file['pattern'] = prepared.scan.positions[prepared.order], prepared.order
        store = file.create_dataset('patches', (len(prepared), n, n), np.complex64)

        def keep(index: NDArray[np.int64], patches: NDArray[np.complex64]) -> None:
            store[int(index[0]) : int(index[-1]) + 1] = patches

        yield keep
