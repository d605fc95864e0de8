"""Arrays that grow on disk, so that memory does not with the length of a scan."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import OutputError
from ..scan import PatternsOnDemand


class Scratch(PatternsOnDemand):
    """Arrays of one shape and type in a file without a name, which vanishes with the process; read as an array is.

    Written and read, not mapped: mapped pages would count as memory of the process.
    """

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...], folder: Path | None) -> None:
        super().__init__(np.dtype(dtype), (0, *shape))
        self._bytes = math.prod(shape) * self.dtype.itemsize
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix='ptychopinn-')  # noqa: SIM115 - lives as long as we
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, values: NDArray[Any]) -> None:
        """Add arrays (k, ...) at the end; OutputError where the disk takes no more."""
        try:
            self._file.seek(len(self) * self._bytes)
            self._file.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error
        self.shape = (len(self) + len(values), *self.shape[1:])

    def read(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """The arrays (k, ...) at `wanted` (k,)."""
        values = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for at, number in enumerate(wanted.tolist()):
            self._file.seek(number * self._bytes)
            values[at] = np.frombuffer(self._file.read(self._bytes), self.dtype).reshape(self.shape[1:])
        return values

    def clear(self) -> None:
        """Forget all arrays; their room is written over."""
        self.shape = (0, *self.shape[1:])

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f'The patterns of a live scan cannot be kept in {self._folder} ({error.strerror or error}); free some '
            'space there, or name another folder (scratch).'
        )
