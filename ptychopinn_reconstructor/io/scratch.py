"""Arrays on disk for as long as they are needed: what does not fit into memory, and folders that have room for it."""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import OutputError, ScanError
from ..patterns import PatternsOnDemand

LARGE = 64 * 2**20  # bytes of patterns: smaller ones are read, or mapped, at once
OTHER_FOLDER = 'name a folder with more (execution.scratch_dir)'
IN_MEMORY = {'tmpfs', 'ramfs'}  # file systems that take memory instead of disk


class OnDisk(PatternsOnDemand):
    """Patterns in an open file."""

    _file: IO[bytes] | None = None

    def close(self) -> None:
        """Give the file back, and with it the disk of a scratch file."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        self.close()


class FilePatterns(OnDisk):
    """Patterns that lie one after the other in a file, `shape` (n, H, W) from `offset` bytes on; `rows` of them.

    Read, not mapped: mapped pages would count as memory of the process. ScanError when the file is shorter than that.
    """

    def __init__(
        self,
        path: Path,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        offset: int = 0,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(np.dtype(dtype), shape if rows is None else (len(rows), *shape[1:]))
        self._path, self._offset, self._rows = path, offset, rows
        self._file = path.open('rb', buffering=0)  # now: it may be removed while it is read
        if path.stat().st_size < offset + math.prod(shape) * self.dtype.itemsize:
            raise ScanError(f'{path} is damaged, shorter than its patterns; copy or write it again.')

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The patterns (k, H, W) at `wanted` (k,)."""
        if self._file is None:
            self._file = self._path.open('rb', buffering=0)
        rows = wanted if self._rows is None else self._rows[wanted]
        return read_runs(self._file, self.dtype, self.shape[1:], rows, self._offset)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), '_file': None}


def read_large(mapped: NDArray[Any]) -> Any:
    """A mapped array as it is, or, where it is large, patterns that are read when they are asked for."""
    source = mapped if isinstance(mapped, np.memmap) else mapped.base
    if mapped.nbytes <= LARGE or not isinstance(source, np.memmap) or not mapped.flags.c_contiguous:
        return mapped
    return FilePatterns(Path(str(source.filename)), mapped.dtype, mapped.shape, source.offset)


class Scratch(OnDisk):
    """Arrays of one shape and type in a file without a name, which vanishes with the process; read as an array is.

    Written and read, not mapped: mapped pages would count as memory of the process.
    """

    def __init__(
        self,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        folder: Path | None,
        what: str,
        *,
        expected: int = 0,
        remedy: str = OTHER_FOLDER,
    ) -> None:
        """For `what`, `expected` arrays of `shape`; OutputError, before any work, where no folder has room for them."""
        super().__init__(np.dtype(dtype), (0, *shape))
        self._remedy = remedy
        self._bytes, self._what = math.prod(shape) * self.dtype.itemsize, what
        self._folder = find_roomy_folder(expected * self._bytes, folder, what, remedy)
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder, prefix='ptychopinn-', buffering=0)  # noqa: SIM115 - lives as long as we
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, values: NDArray[Any]) -> None:
        """Add arrays (k, ...) at the end; OutputError where the disk takes no more."""
        self[np.arange(len(self), len(self) + len(values))] = values

    def __setitem__(self, index: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write arrays (k, ...) to consecutive places `index` (k,), not beyond the end; OutputError as `append`."""
        if not len(index):
            return
        left = np.ascontiguousarray(values, dtype=self.dtype).reshape(-1).view(np.uint8).data
        try:
            with self._reading:
                self._file.seek(int(index[0]) * self._bytes)
                while left:
                    left = left[self._file.write(left) :]
        except OSError as error:
            raise self._unwritable(error) from error
        self.shape = (max(len(self), int(index[-1]) + 1), *self.shape[1:])

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The arrays (k, ...) at `wanted` (k,)."""
        return read_runs(self._file, self.dtype, self.shape[1:], wanted)

    def clear(self) -> None:
        """Forget all arrays; their room is written over."""
        self.shape = (0, *self.shape[1:])

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f'{self._what} cannot be kept in {self._folder} ({error.strerror or error}); free some space there, or '
            f'{self._remedy}.'
        )


def empty_patterns(shape: tuple[int, ...], dtype: DTypeLike, folder: Path) -> Any:
    """An array (n, H, W) to be filled in order and then written to `folder`: in memory, or a scratch file there."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= LARGE:
        return np.empty(shape, dtype)
    remedy = 'choose another output folder'
    return Scratch(dtype, shape[1:], folder, 'Simulated patterns', expected=2 * shape[0], remedy=remedy)


def read_runs(
    file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], wanted: NDArray[np.int64], offset: int = 0
) -> NDArray[Any]:
    """Arrays (k, *shape) at `wanted` (k,) of those that lie one after the other in an unbuffered file."""
    values = np.empty((len(wanted), *shape), dtype)
    size, flat = math.prod(shape) * dtype.itemsize, values.reshape(-1).view(np.uint8).data
    edges = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
    for first, last in itertools.pairwise(edges):
        if first == last:
            continue
        file.seek(offset + int(wanted[first]) * size)
        left = flat[first * size : last * size]
        while left:
            count = file.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise ScanError(f'{file.name} is damaged, shorter than its patterns; copy or write it again.')
            left = left[count:]
    return values


def find_roomy_folder(needed: int, wanted: Path | None, what: str, remedy: str = OTHER_FOLDER) -> Path:
    """A folder with `needed` bytes free: `wanted` if there is one, otherwise the first of the system's that has them.

    A folder that lies in memory is taken only when no other has the room. Raises OutputError naming what is free.
    """
    candidates = list_scratch_folders(wanted)
    free = {folder: shutil.disk_usage(folder).free for folder in candidates if folder.is_dir()}
    roomy = [folder for folder, space in free.items() if space >= needed]
    if roomy:
        return min(roomy, key=_lies_in_memory)
    there = ', '.join(f'{folder} has {_format(space)} free' for folder, space in free.items())
    if not there:
        raise OutputError(f'{what} need {_format(needed)} of scratch space but {candidates[0]} is no folder; {remedy}.')
    raise OutputError(f'{what} need {_format(needed)} of scratch space but {there}; free some, or {remedy}.')


def list_scratch_folders(wanted: Path | None) -> list[Path]:
    """Where scratch files may go: where they are wanted, or the system's folders for temporary files."""
    if wanted is not None:
        return [wanted]
    return list(dict.fromkeys([Path(tempfile.gettempdir()), Path('/var/tmp')]))


def _format(size: int) -> str:
    return f'{size / 2**20:,.0f} MiB' if size < 10 * 2**30 else f'{size / 2**30:,.1f} GiB'


def _lies_in_memory(folder: Path) -> bool:
    """Whether a folder is on a file system that takes memory (Linux; elsewhere False)."""
    try:
        mounts = [line.split() for line in Path('/proc/mounts').read_text().splitlines()]
    except OSError:
        return False
    where = folder.resolve()
    holding = [fields for fields in mounts if where.is_relative_to(fields[1])]
    return bool(holding) and max(holding, key=lambda fields: len(fields[1]))[2] in IN_MEMORY
