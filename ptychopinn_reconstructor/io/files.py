"""Opening and replacing files, with one clear sentence when that fails."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from ..errors import OutputError, ScanError

Kind = Literal['npz', 'npy', 'hdf5']

_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b'PK', 'npz'),
    (b'\x93NUMPY', 'npy'),
    (b'\x89HDF\r\n\x1a\n', 'hdf5'),
)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes otherwise.

    Missing parent folders are made. Raises OutputError when the folder or the file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f'.{target.name}.{secrets.token_hex(4)}.tmp')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f'Cannot write {target}: {reason}; choose another folder or free some space.') from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def file_kind(path: Path) -> Kind:
    """The format of a file by its first bytes, whatever its name is.

    Raises ScanError when there is no such file, it cannot be read, is empty or is none of NPZ, NPY and HDF5.
    """
    try:
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
    raise ScanError(f'{path} is neither an NPZ nor an HDF5 file (it begins with {head!r}); pass one of these.')
