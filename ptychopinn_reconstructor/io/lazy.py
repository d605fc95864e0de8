"""Diffraction patterns read from their HDF5 file on demand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError, ScanError
from ..events import Notice
from ..patterns import PatternsOnDemand, split_into_blocks
from .hdf5 import open_file
from .links import check_storage
from .scratch import LARGE, FilePatterns, Scratch

_CACHE_SLOTS = 100_003


class LazyPatterns(PatternsOnDemand):
    """Rows of an (n, H, W) HDF5 dataset, or of a raster of them, (rows, columns, H, W), one after the other.

    The file is opened on first use and again after pickling, so that it reaches worker processes as a path.
    """

    def __init__(self, path: str | Path, key: str, rows: NDArray[np.int64] | None = None) -> None:
        self._path, self._key = Path(path), key
        self._dataset: Any = None
        dataset = self._open()
        count = math.prod(dataset.shape[:-2])
        self._rows = np.arange(count) if rows is None else np.asarray(rows, dtype=np.int64)
        super().__init__(dataset.dtype, (len(self._rows), *dataset.shape[-2:]))

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The patterns (k, H, W) at `wanted` (k,)."""
        unique, inverse = np.unique(self._rows[wanted], return_inverse=True)
        return np.asarray(self._read(unique)[inverse])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), '_dataset': None}

    def _open(self) -> Any:
        if self._dataset is None:
            file = open_file(self._path, rdcc_nbytes=LARGE, rdcc_nslots=_CACHE_SLOTS)
            self._dataset = file[self._key]
            check_storage(self._dataset, open_file)  # in a new process the filters have to be loaded again
        return self._dataset

    def _read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Increasing rows, read in runs: HDF5 is slow on long lists of single rows."""
        dataset = self._open()
        columns = len(dataset) if dataset.ndim == 3 else dataset.shape[1]
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        edges = np.flatnonzero((np.diff(rows) != 1) | (rows[1:] % columns == 0)) + 1
        for run in np.split(np.arange(len(rows)), edges) if len(rows) else []:
            line, first = divmod(int(rows[run[0]]), columns)
            place = slice(first, first + len(run))
            try:
                values[run[0] : run[-1] + 1] = dataset[place] if dataset.ndim == 3 else dataset[line, place]
            except OSError as error:
                where = f'patterns {rows[run[0]]} to {rows[run[-1]]} of {self._path}'
                raise ScanError(f'The {where} are damaged ({error}); copy or write the file again.') from error
        return values


def open_patterns(
    dataset: Any, rows: NDArray[np.int64], scratch: Path | None = None
) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """The `rows` of an open (n, H, W) dataset, or of a raster of them: in memory when small, else read on demand.

    Patterns that are expensive to read one by one are unpacked once, into a file in the folder `scratch`.
    """
    shape = math.prod(dataset.shape[:-2]), *dataset.shape[-2:]
    if dataset.size * dataset.dtype.itemsize <= LARGE:
        values = dataset[()].reshape(shape)
        return values if np.array_equal(rows, np.arange(len(values))) else np.ascontiguousarray(values[rows]), ()
    # The file that a link leads to, not the one that holds the link. Only values that lie in that file in one piece
    # have an offset (it counts a user block); a virtual dataset, external storage and chunks have none.
    path, offset = Path(dataset.file.filename).absolute(), dataset.id.get_offset()
    if offset is not None:
        patterns: Any = FilePatterns(path, dataset.dtype, shape, offset, rows)
        return patterns, ()
    patterns = LazyPatterns(path, dataset.name, rows)
    return _unpack(patterns, scratch) if _is_packed(dataset) else (patterns, ())


def _is_packed(dataset: Any) -> bool:
    """Whether reading one pattern means decompressing it, or reading its neighbors too."""
    chunks = dataset.chunks
    filters = dataset.id.get_create_plist().get_nfilters()
    return bool(dataset.is_virtual or (chunks and (math.prod(chunks[:-2]) > 1 or filters)))


def _unpack(patterns: Any, folder: Path | None) -> tuple[Any, tuple[Notice, ...]]:
    """The patterns in a scratch file, which vanishes with them; as they are, with a notice, without room for it.

    In random order, a pass over 4000 patterns of 128 x 128 pixels in gzip chunks of 100 takes 33 s of decompression.
    """
    try:  # twice the room: others write there too, such as we the patches of a network
        unpacked = Scratch(patterns.dtype, patterns.shape[1:], folder, 'Unpacked patterns', expected=2 * len(patterns))
        for block in split_into_blocks(patterns.shape):
            unpacked.append(patterns[block])
    except OutputError as error:
        return patterns, (Notice('patterns_packed', f'Patterns are decompressed at each use, which is slow: {error}'),)
    return unpacked, ()
