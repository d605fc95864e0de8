"""Diffraction patterns read from their HDF5 file on demand."""

from __future__ import annotations

import math
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from ..patterns import PatternsOnDemand, split_into_blocks
from .hdf5 import open_file
from .links import check_storage

EAGER_BYTES = 64 * 2**20  # a smaller dataset is read at once; the chunk cache of a larger one has this size
_CACHE_SLOTS = 100_003


class LazyPatterns(PatternsOnDemand):
    """Rows of an (n, H, W) HDF5 dataset.

    The file is opened on first use and again after pickling, so that it reaches worker processes as a path.
    """

    def __init__(self, path: str | Path, key: str, rows: NDArray[np.int64] | None = None) -> None:
        self._path, self._key = Path(path), key
        self._dataset: Any = None
        dataset = self._open()
        self._rows = np.arange(dataset.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)
        super().__init__(dataset.dtype, (len(self._rows), *dataset.shape[1:]))

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The patterns (k, H, W) at `wanted` (k,)."""
        unique, inverse = np.unique(self._rows[wanted], return_inverse=True)
        return np.asarray(self._read(unique)[inverse])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), '_dataset': None}

    def _open(self) -> Any:
        if self._dataset is None:
            file = open_file(self._path, rdcc_nbytes=EAGER_BYTES, rdcc_nslots=_CACHE_SLOTS)
            self._dataset = file[self._key]
            check_storage(self._dataset, open_file)  # in a new process the filters have to be loaded again
        return self._dataset

    def _read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Increasing rows, read in runs: HDF5 is slow on long lists of single rows."""
        dataset = self._open()
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        for run in np.split(np.arange(len(rows)), edges) if len(rows) else []:
            try:
                values[run[0] : run[-1] + 1] = dataset[rows[run[0]] : rows[run[-1]] + 1]
            except OSError as error:
                where = f'patterns {rows[run[0]]} to {rows[run[-1]]} of {self._path}'
                raise ScanError(f'The {where} are damaged ({error}); copy or write the file again.') from error
        return values


def open_patterns(dataset: Any, rows: NDArray[np.int64]) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """The `rows` of an open (n, H, W) dataset: in memory when small, memory-mapped when contiguous, else on demand.

    Patterns that are expensive to read one by one are unpacked once, into a temporary file that is memory-mapped.
    """
    if dataset.size * dataset.dtype.itemsize <= EAGER_BYTES:
        values = dataset[()]
        return values if np.array_equal(rows, np.arange(len(dataset))) else np.ascontiguousarray(values[rows]), ()
    # The file that a link leads to, not the one that holds the link. Only values that lie in that file in one piece
    # have an offset (it counts a user block); a virtual dataset, external storage and chunks have none.
    path, offset = Path(dataset.file.filename).absolute(), dataset.id.get_offset()
    if offset is not None and (np.diff(rows) == 1).all():
        mapped = np.memmap(path, dataset.dtype, 'r', offset, dataset.shape)
        return mapped[rows[0] : rows[-1] + 1], ()
    patterns: Any = LazyPatterns(path, dataset.name, rows)
    return _unpack(patterns) if _is_packed(dataset) else (patterns, ())


def _is_packed(dataset: Any) -> bool:
    """Whether reading one pattern means decompressing it, or reading its neighbors too."""
    chunks = dataset.chunks
    return bool(dataset.is_virtual or (chunks and (chunks[0] > 1 or dataset.id.get_create_plist().get_nfilters())))


def _unpack(patterns: Any) -> tuple[Any, tuple[Notice, ...]]:
    """The patterns in a temporary file, which vanishes with the array; as they are, with a notice, without room for it.

    In random order, a pass over 4000 patterns of 128 x 128 pixels in gzip chunks of 100 takes 33 s of decompression.
    """
    folder, size = tempfile.gettempdir(), len(patterns) * math.prod(patterns.shape[1:]) * patterns.dtype.itemsize
    if 2 * size <= shutil.disk_usage(folder).free:  # others write there too
        with suppress(OSError), tempfile.TemporaryFile(prefix='ptychopinn-') as file:  # it has no name: nothing stays
            for block in split_into_blocks(patterns.shape):
                file.write(patterns[block].tobytes())
            return np.memmap(file, patterns.dtype, 'r', shape=patterns.shape), ()
    text = (
        f'The patterns are decompressed again at each use, which is slow: {folder} has no room for '
        f'{size / 2**30:.1f} GiB of unpacked ones; set the environment variable TMPDIR to a folder that has.'
    )
    return patterns, (Notice('patterns_packed', text),)
