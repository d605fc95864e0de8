"""File formats, told apart by the first bytes of a file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

from ..errors import ScanError

Kind = Literal['npz', 'npy', 'hdf5', 'tiff']

HDF5 = b'\x89HDF\r\n\x1a\n'
_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b'PK', 'npz'),
    (b'\x93NUMPY', 'npy'),
    (HDF5, 'hdf5'),
    *((head, 'tiff') for head in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')),
)


def detect_file_kind(path: Path) -> Kind:
    """The format of a file by its first bytes, whatever its name is.

    Raises ScanError when there is no such file, it cannot be read, is empty or is none of NPZ, NPY, HDF5 and TIFF.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe that nobody writes to would be waited for
            raise ScanError(f'{path} is no regular file but a folder, pipe or device; pass a file.')
        with path.open('rb') as stream:
            head = stream.read(8)
    except FileNotFoundError as error:
        raise ScanError(f'There is no file {path}; check the path.') from error
    except OSError as error:
        raise ScanError(f'Cannot read {path}: {error.strerror}; check the path and its permissions.') from error
    if not head:
        raise ScanError(f'{path} is empty; write or copy the file again.')
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if _follows_user_block(path):
        return 'hdf5'
    raise ScanError(f'{path} is neither an NPZ, HDF5 nor TIFF file (it begins with {head!r}); pass one of these.')


def _follows_user_block(path: Path) -> bool:
    """Whether HDF5 begins behind a block of the user's own, of 512 bytes, or twice, four times ... as many."""
    size, offset = path.stat().st_size, 512
    with path.open('rb') as stream:
        while offset < size:
            stream.seek(offset)
            if stream.read(len(HDF5)) == HDF5:
                return True
            offset *= 2
    return False
