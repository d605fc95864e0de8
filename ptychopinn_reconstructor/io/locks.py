"""Locks of output folders: one job at a time writes into a folder, and who it is stands in the lock."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from ..errors import Interrupted, OutputError, quote
from ..events import ShouldStop
from .atomic import make_folder
from .system import CAN_LOCK, HOST, is_running, lock_file

NAME = '.ptychopinn.lock'
ATTEMPTS = 20  # to open a lock that its owner removes at the same moment
POLL = 0.2  # seconds between two looks at a lock that is waited for


class FolderInUseError(OutputError):
    """Another process has the lock of a folder.

    The sentence names its machine and number. Wait for it, or choose another folder; the lock of a process that was
    killed is free.
    """


class FolderLock:
    """While the block runs, no other process takes the lock of the folder, which is made where absent.

    The system lets go of the lock of a process that was killed: it is taken over. A job within a job of the same
    thread shares its lock. `job` says in the error of others what is being done. A lock of another `name` excludes
    only those of that name. With `should_stop` a folder in use is waited for.

    Raises OutputError that names host and process when the folder is in use, or cannot be written; Interrupted when
    asked to stop while waiting.
    """

    def __init__(
        self, folder: str | os.PathLike[str], job: str, *, name: str = NAME, should_stop: ShouldStop | None = None
    ) -> None:
        self.folder, self.job, self.name, self.should_stop = Path(folder), job, name, should_stop
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        while True:
            try:
                return self._take()
            except FolderInUseError:
                if self.should_stop is None:
                    raise
                if self.should_stop():
                    raise Interrupted('Stopped on request.') from None
            time.sleep(POLL)

    def _take(self) -> Self:
        path = make_folder(self.folder) / self.name
        for _ in range(ATTEMPTS):
            try:
                file = path.open('a+', encoding='utf-8', errors='replace')
                if self._claim(file, path):
                    return self
                file.close()
            except OSError as error:
                raise OutputError(
                    f'Cannot lock the folder {self.folder} ({error.strerror}); choose another.'
                ) from error
        raise OutputError(f'Cannot lock the folder {self.folder}: its lock {path} does not last; choose another.')

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # before it is closed: afterwards it may be another's
                (self.folder / self.name).unlink()
            self._file.close()
            self._file = None

    def _claim(self, file: IO[str], path: Path) -> bool:
        """Whether the lock is ours now, or already was; False where its file is gone again."""
        file.seek(0)
        owner = _parse_owner(file.read())
        known = _try_lock(file)
        if known is not True and _is_this_thread(owner):
            file.close()
            return True
        if known is False or (known is None and _may_run(owner)):
            file.close()
            raise FolderInUseError(_describe(self.folder, owner, path))
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                json.dump({**_describe_thread(), 'job': self.job, 'since': time.time()}, file)
                file.flush()
                self._file = file
                return True
        return False


def _try_lock(file: IO[str]) -> bool | None:
    """Whether the file is locked now; None where the file system has no locks."""
    if not CAN_LOCK:
        return None
    try:
        return lock_file(file)
    except OSError:
        return None


def _describe_thread() -> dict[str, Any]:
    return {'host': HOST, 'pid': os.getpid(), 'thread': threading.get_ident()}


def _is_this_thread(owner: dict[str, Any]) -> bool:
    return all(owner.get(key) == value for key, value in _describe_thread().items())


def _parse_owner(text: str) -> dict[str, Any]:
    try:
        owner = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _may_run(owner: dict[str, Any]) -> bool:
    """Whether the owner of a lock may still be there; only those of this host can be asked after."""
    if not owner:
        return False
    pid = owner.get('pid')
    return owner.get('host') != HOST or (isinstance(pid, int) and is_running(pid))


def _describe(folder: Path, owner: dict[str, Any], path: Path) -> str:
    who = 'another process'
    if owner.get('host') == HOST and owner.get('pid') == os.getpid():
        who = f'another thread of this process ({quote(owner.get("job"))})'
    elif owner:
        who = f'process {quote(owner.get("pid"))} on {quote(owner.get("host"))} ({quote(owner.get("job"))})'
    return (
        f'The folder {folder} is in use by {who}; wait for its end, or choose another folder (where that process is '
        f'gone, remove {path}).'
    )
