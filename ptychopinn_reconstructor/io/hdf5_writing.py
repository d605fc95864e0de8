"""Writing HDF5 files: a disk that fills is one sentence, where HDF5 itself crashes when it closes such a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .atomic import write_atomically


class _Stream(io.RawIOBase):
    """A file that takes everything: what the disk has refused is kept in `error`, and read as zeros."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast('B'), 0
        while done < len(view) and (count := self.file.readinto(view[done:])):
            done += count
        view[done:] = bytes(len(view) - done)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast('B')
        if self.error is None:
            try:
                done = 0
                while done < len(view):  # a disk that is nearly full takes a part
                    done += self.file.write(view[done:])
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def flush(self) -> None:
        """Nothing is kept back: the file has no buffer."""


@contextmanager
def write_hdf5(target: str | os.PathLike[str]) -> Iterator[Any]:
    """An HDF5 file (h5py.File) open for writing, which gets its name when the block succeeds; see `write_atomically`.

    Raises OutputError when the folder cannot be written, the disk is full or `target` is a folder.
    """
    import h5py

    with write_atomically(target) as temporary, temporary.open('w+b', buffering=0) as raw:
        stream = _Stream(raw)
        try:
            with h5py.File(stream, 'w') as file:
                yield file
        finally:
            if stream.error is not None:
                raise stream.error
