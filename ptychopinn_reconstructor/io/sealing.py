"""Zip archives sealed with the SHA-256 of their bytes, so that damage is found before a framework loads anything.

The seal is the archive's comment, which every reader of zip files skips: PyTorch and Keras open a sealed file as their
own. It tells damage, not origin: whoever alters a file on purpose can seal it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import ModelFileError, PtychoPINNError
from .atomic import write_atomically

PREFIX = b'sha256:'
SEAL_LENGTH = len(PREFIX) + 64
END, END_LENGTH = b'PK\x05\x06', 22  # the last record of an archive, which ends with the length of its comment
BLOCK = 2**20  # bytes that are hashed at a time
REMEDY = 'train anew, or put an undamaged copy in its place'


@contextmanager
def write_sealed(target: str | os.PathLike[str]) -> Iterator[Path]:
    """As `write_atomically`, of a zip archive, which is sealed before it gets its name. Raises OutputError."""
    with write_atomically(target) as temporary:
        yield temporary
        seal(temporary)


def seal(path: Path) -> None:
    """Write the SHA-256 of a zip archive into its comment, which must be empty."""
    with path.open('rb+') as file:
        length = file.seek(0, os.SEEK_END) - 2
        digest = _hash_start(file, length)
        file.seek(length)
        file.write(SEAL_LENGTH.to_bytes(2, 'little') + PREFIX + digest)


@contextmanager
def open_sealed(path: Path) -> Iterator[None]:
    """A block that loads a sealed checkpoint, begun only when the seal is right.

    Raises ModelFileError for a checkpoint that is damaged or not sealed, and for whatever its framework says of it.
    """
    check_seal(path)
    try:
        yield
    except PtychoPINNError:
        raise
    except Exception as error:  # a framework's own words advise to execute what is in the file
        raise ModelFileError(
            f'The checkpoint {path} cannot be resumed from ({type(error).__name__}): it is of another network, probe '
            f'or version, or holds more than arrays and plain values, which is never loaded; {REMEDY}.'
        ) from error


def check_seal(path: Path) -> None:
    """Raise ModelFileError unless a file is a zip archive whose seal is that of its bytes."""
    try:
        with path.open('rb') as file:
            length = file.seek(0, os.SEEK_END) - SEAL_LENGTH - 2
            file.seek(max(0, length - END_LENGTH + 2))
            tail = file.read()
            recorded = tail[-64:]
            sealed = tail.startswith(END) and tail[END_LENGTH - 2 : -64] == SEAL_LENGTH.to_bytes(2, 'little') + PREFIX
            if sealed and _hash_start(file, length) == recorded:
                return
    except (OSError, MemoryError) as error:
        raise ModelFileError(f'The checkpoint {path} cannot be read ({error}); check its permissions.') from error
    reason = 'its SHA-256 is not the recorded one' if sealed else 'it does not end with its SHA-256'
    raise ModelFileError(f'The checkpoint {path} is damaged or not one of ours: {reason}; {REMEDY}.')


def _hash_start(file: IO[bytes], length: int) -> bytes:
    """The SHA-256 of the first `length` bytes of an open file, in hexadecimal digits."""
    found = hashlib.sha256()
    file.seek(0)
    while length > 0 and (block := file.read(min(BLOCK, length))):
        found.update(block)
        length -= len(block)
    return found.hexdigest().encode()
