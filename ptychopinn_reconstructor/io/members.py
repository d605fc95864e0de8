"""Arrays inside an NPZ file, read without ever unpickling and memory-mapped where they are stored uncompressed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError, PtychoPINNError, ScanError, quote, shorten
from ..patterns import BLOCK_BYTES
from .memory import require_memory
from .scratch import LARGE, Scratch, read_large

_LOCAL_HEADER = 30  # bytes before the name in a zip member's own header
_SIGNATURE = b'PK\x03\x04'  # of that header
MAX_PACKING = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1100}  # times that zeros become smaller: 1032, and headers


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size: int  # bytes


class NpzMembers:
    """The arrays of one NPZ file by key; a context manager.

    Raises ScanError when the file is truncated, damaged, or a wanted array is pickled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explain_errors('the archive'):
            self._length = path.stat().st_size
            self._zip = zipfile.ZipFile(path)
        self._infos = {i.filename.removesuffix('.npy'): i for i in self._zip.infolist() if i.filename.endswith('.npy')}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, key: str) -> bool:
        return key in self._infos

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order of the file."""
        return tuple(self._infos)

    def find_first(self, *keys: str) -> str | None:
        """The first of `keys` that the file holds, or None."""
        return next((key for key in keys if key in self._infos), None)

    def is_pickled(self, key: str) -> bool:
        """True when the array holds Python objects, which are never loaded."""
        return self._get_header(key).dtype.hasobject

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of the array `key`, from its header."""
        return self._get_header(key).shape

    def read(self, key: str) -> NDArray[Any]:
        """The array `key` in its own dtype, in memory."""
        header = self._check_header(key)
        size = self._infos[key].file_size
        require_memory(
            size,
            f'The key {quote(key)} of {self.path}',
            'save the file uncompressed, name a folder with room for patterns (execution.scratch_dir), or use a larger '
            'machine',
        )
        with self._explain_errors(key), self._zip.open(self._infos[key]) as stream:
            stream.read(header.size)
            buffer = bytearray(stream.read())
            flat = np.frombuffer(buffer, dtype=header.dtype)
            return flat.reshape(header.shape, order='F' if header.fortran_order else 'C')

    def open(self, key: str, scratch: Path | None = None) -> NDArray[Any]:
        """The patterns `key`, mapped or read inside the archive when they are stored there uncompressed.

        Large ones that are compressed are unpacked into a file in the folder `scratch`, where that has the room.
        """
        header, info = self._check_header(key), self._infos[key]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or 0 in header.shape:
            is_large = info.file_size > LARGE and not header.fortran_order
            unpacked: Any = self._unpack(key, header, scratch) if is_large else None
            return self.read(key) if unpacked is None else unpacked
        with self._explain_errors(key):
            offset = self._find_data(info) + header.size
            order = 'F' if header.fortran_order else 'C'
            return read_large(np.memmap(self.path, header.dtype, 'r', offset, header.shape, order))  # type: ignore[call-overload, no-any-return]

    def _unpack(self, key: str, header: _Header, folder: Path | None) -> Scratch | None:
        """The array `key` in a scratch file, never whole in memory; None where no folder has the room."""
        try:
            unpacked = Scratch(
                header.dtype, header.shape[1:], folder, f'Patterns of {self.path}', expected=header.shape[0]
            )
        except OutputError:
            return None
        with self._explain_errors(key), self._zip.open(self._infos[key]) as stream:
            stream.read(header.size)
            for block in np.array_split(np.arange(header.shape[0]), -(-self._infos[key].file_size // BLOCK_BYTES)):
                shape = len(block), *header.shape[1:]
                part = stream.read(math.prod(shape) * header.dtype.itemsize)
                unpacked.append(np.frombuffer(part, header.dtype).reshape(shape))
            stream.read()  # at its end the checksum is compared
        return unpacked

    def _find_data(self, info: zipfile.ZipInfo) -> int:
        with self.path.open('rb') as stream:
            stream.seek(info.header_offset)
            local = stream.read(_LOCAL_HEADER)
        if not local.startswith(_SIGNATURE):
            raise zipfile.BadZipFile('a header is not where the directory says')
        name, extra = int.from_bytes(local[26:28], 'little'), int.from_bytes(local[28:30], 'little')
        return info.header_offset + _LOCAL_HEADER + name + extra

    def _get_header(self, key: str) -> _Header:
        with self._explain_errors(key), self._zip.open(self._infos[key]) as stream:
            return _read_header(stream)

    def _check_header(self, key: str) -> _Header:
        header, info = self._get_header(key), self._infos[key]
        if header.dtype.hasobject:
            raise ScanError(
                f'The key {quote(key)} of {self.path} is pickled and is never loaded; save it as a plain numeric array.'
            )
        if header.size + math.prod(header.shape) * header.dtype.itemsize != info.file_size:
            raise ScanError(
                f'The key {quote(key)} of {self.path} is damaged (length and shape disagree); copy it again.'
            )
        packing = MAX_PACKING.get(info.compress_type, math.inf)
        if info.file_size > packing * info.compress_size or info.compress_size > self._length:
            raise ScanError(
                f'The key {quote(key)} of {self.path} declares {info.file_size:,} bytes, more than the file can hold; '
                'copy it again.'
            )
        return header

    @contextmanager
    def _explain_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            raise ScanError(
                f'{shorten(what)} of {self.path} does not fit into memory; save the file uncompressed.'
            ) from error
        except (PtychoPINNError, ImportError):
            raise
        except Exception as error:  # a header is a literal of Python, and whatever that may be
            raise ScanError(
                f'{self.path} is not a readable NPZ file, truncated or damaged at {shorten(what)} '
                f'({type(error).__name__}); copy or write it again.'
            ) from error


def _read_header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f'npy format {version}')
    shape, fortran_order, dtype = readers[version](stream)
    return _Header(shape, fortran_order, dtype, stream.tell())
