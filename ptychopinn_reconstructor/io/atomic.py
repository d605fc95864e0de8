"""Atomic writing: a killed job leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from .system import HOST, is_running

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
FORGOTTEN = 24 * 3600.0  # seconds after which a part of a file is given up whose writer cannot be asked after
# The names of the parts say who writes them: host, process, and a number drawn for each.
_PART = re.compile(r'\..*\.(?P<host>[\w-]+)-(?P<pid>\d+)-[0-9a-f]{8}\.partial(\.[^.]*)?', re.DOTALL)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder at `path` with its parents where absent, test that it can be written, and return it.

    Parts of files that killed processes have left in it are removed. Raises OutputError when it cannot be made or
    written, or is a file.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        remove_parts(folder)
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
    owner = f'{HOST}-{os.getpid()}-{secrets.token_hex(4)}'
    temporary = make_folder(final.parent) / f'.{_shorten_stem(final.stem)}.{owner}.partial{final.suffix[:20]}'
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


def _shorten_stem(stem: str) -> str:
    """So much of a name that the part's own name keeps below the 255 bytes of a file system."""
    return stem.encode('utf-8', 'surrogateescape')[:100].decode('utf-8', 'ignore')


def remove_parts(folder: Path) -> None:
    """Remove the parts of files in `folder` whose writers have ended, or are of another host and a day old."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _PART.fullmatch(entry.name)
            if found is not None and _is_abandoned(entry, found['host'], int(found['pid'])):
                with suppress(OSError):
                    os.unlink(entry)


def _is_abandoned(entry: os.DirEntry[str], host: str, pid: int) -> bool:
    if host == HOST and not is_running(pid):
        return True
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > FORGOTTEN


def _flush_to_disk(path: Path) -> None:
    # Renaming is atomic, but without this a crash of the machine could keep the name and lose the content.
    with path.open('rb+') as file:
        os.fsync(file.fileno())
