"""An output folder that bad input leaves as it was."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from ..errors import InputError, OutputError
from ..events import Emit, Epoch, Event, Progress
from ..io.locks import FolderLock


def check_output_folder(path: Path) -> Path:
    """The part of a folder that is there already; OutputError, without making anything, where it cannot be written."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise OutputError(f"Cannot write into the folder '{path}': '{there}' is a file; choose another output folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(
            f"Cannot write into the folder '{path}': '{there}' is not writable; choose another output folder."
        )
    return there


# What a training writes; other programs may write beside it, and their files are never touched.
OWN = ('config.yaml', 'metrics.csv', 'model.safetensors', 'probe.npz', 'checkpoints', 'tensorboard', 'mlruns')


class OutputFolder:
    """While a job runs: when it ends in bad input before any work was done, what it had written there is removed.

    No other process trains in it meanwhile (see `FolderLock`). `watching(emit)` tells from the job's events when the
    work begins. Folders made and left empty are always removed.
    """

    def __init__(self, path: Path) -> None:
        check_output_folder(path)
        self.path = path
        self.begun = False

    def __enter__(self) -> Self:
        self._absent = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self._there = self._own()
        self._lock = FolderLock(self.path, 'training').__enter__()  # last: what fails here has nothing to remove
        return self

    def _own(self) -> set[Path]:
        own = [self.path / name for name in OWN]
        return {path for path in own if path.exists()} | {path for folder in own for path in folder.rglob('*')}

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError) and not self.begun:
            for path in sorted(self._own() - self._there, reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        self._lock.__exit__()
        if error is not None:
            with suppress(OSError):
                for folder in self._absent:
                    folder.rmdir()

    def watching(self, emit: Emit) -> Emit:
        """An `emit` that notices the first progress and passes every event on."""

        def both(event: Event) -> None:
            self.begun = self.begun or isinstance(event, Progress | Epoch)
            emit(event)

        return both
