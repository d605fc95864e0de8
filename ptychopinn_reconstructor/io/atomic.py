"""Atomic writing: a killed job leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder at `path` with its parents where absent, test that it can be written, and return it.

    Raises OutputError when it cannot be made or written, or is a file.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write into the folder '{folder}' ({error.strerror or error}); choose another output folder."
        ) from error
    return folder


@contextmanager
def write_atomically(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `target`, of the same suffix, renamed to `target` when the block succeeds.

    When the block raises, whatever it wrote is removed and an earlier `target` stays as it was. The folder is made
    where absent. A `target` that is a symbolic link keeps being one: the file that it points to is replaced.

    Raises OutputError when the folder cannot be written, the disk is full or `target` is a folder.
    """
    final = Path(os.path.realpath(target))
    if final.is_dir():
        raise OutputError(f"Cannot write '{final}': it is a folder; name a file in it.")
    temporary = make_folder(final.parent) / f'.{final.stem[:100]}.{secrets.token_hex(4)}.partial{final.suffix}'
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, final)
    except OSError as error:
        if error.errno in UNWRITABLE or error.filename == str(temporary):
            raise OutputError(
                f"Cannot write '{final}' ({error.strerror}); free some space or choose another."
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    # Renaming is atomic, but without this a crash of the machine could keep the name and lose the content.
    with path.open('rb+') as file:
        os.fsync(file.fileno())
