"""Handing a scan from one process to another: plain .npy files in a scratch folder, memory-mapped by the reader.

Nothing is pickled and nothing is sent through a pipe: the writer's array goes to the page cache, the reader maps it.
The folder is locked while its owner lives, so that what a killed owner has left is found and removed at the next start.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..io.arrays import map_npy, read_npy
from ..io.boundary import bound_errors
from ..io.records import ScanFile, Use, build_scan
from ..io.scratch import find_roomy_folder, list_scratch_folders, read_large
from ..io.system import CAN_LOCK, lock_file
from ..scan import Scan

PREFIX, LOCK = 'ptychopinn-job-', 'owner.lock'
HEADROOM = 64 * 2**20  # bytes beside the arrays: previews, results, checkpoints of libraries
YOUNG = 60.0  # seconds in which a folder may not have its lock yet
ARRAYS = ('diffraction', 'positions', 'probe', 'object', 'bad_pixels', 'scan_index', 'pattern_indexes')
DESCRIPTION = 'scan.json'


class Scratch:
    """A folder for one job, with room for `size` bytes, removed at the end of the block whatever happens in it.

    `parent` is where the user wants it; None: the system's folder for temporary files, or another with enough space.
    Raises OutputError when there is not enough space, before anything is written.
    """

    def __init__(self, size: int, parent: Path | None = None) -> None:
        for folder in list_scratch_folders(parent):
            remove_leftovers(folder)
        self.parent = find_roomy_folder(size + HEADROOM, parent, 'The arrays of the scan')

    def __enter__(self) -> Self:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.parent))
            self._lock = _locked(self.path) if CAN_LOCK else None
        except OSError as error:
            raise OutputError(
                f'Cannot write into the scratch folder {self.parent} ({error.strerror}); set another ScratchDir.'
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def _locked(folder: Path) -> IO[str]:
    fresh = folder / f'{LOCK}.new'
    file = fresh.open('w')
    lock_file(file)
    fresh.rename(folder / LOCK)  # under its name it is locked from the first moment
    return file


def remove_leftovers(parent: Path) -> None:
    """Remove the scratch folders in `parent` whose owners are gone; none where locks cannot tell."""
    for folder in parent.glob(f'{PREFIX}*'):
        with suppress(OSError):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    if not CAN_LOCK or folder.stat().st_uid != os.getuid():
        return False
    if not (folder / LOCK).exists():
        return time.time() - folder.stat().st_mtime > YOUNG
    with (folder / LOCK).open('r+') as file:
        return lock_file(file)


def write_arrays(folder: Path, arrays: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Write a scan's arrays (of ARRAYS; None is left out) and its other fields to a folder, for `read_arrays`.

    The patterns are written as they are, without a copy. Raises OutputError when the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            if (values := arrays.get(name)) is not None:
                np.save(folder / f'{name}.npy', values, allow_pickle=False)
        (folder / DESCRIPTION).write_text(json.dumps(description))
    except OSError as error:
        raise OutputError(
            f'Cannot write the scan into the scratch folder {folder} ({error.strerror or error}); '
            'set another ScratchDir.'
        ) from error


def read_arrays(folder: Path, *, as_is: bool = False) -> ScanFile:
    """The scan that `write_arrays` has left in a folder, left on disk, mended unless it is to be taken `as_is`.

    Raises ScanError when it breaks the rules.
    """
    with bound_errors(folder, what=f'The scan handed over in {folder}', remedy='start the job again'):
        description = json.loads((folder / DESCRIPTION).read_text())
        arrays: dict[str, Any] = dict(_mapped(folder))
        return ScanFile(*build_scan(Use(as_is=as_is), **arrays, **_fields(description)))


def _mapped(folder: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in ARRAYS:
        if (folder / f'{name}.npy').exists():
            values = map_npy(folder / f'{name}.npy')
            yield name, read_large(values) if name == 'diffraction' else values


def _fields(description: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {key: tuple(value) for key, value in description.items() if isinstance(value, list)}
    return {**description, **pairs}


def restore_positions(folder: Path, scan: Scan, refined: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (n, 2) of all patterns handed over in a folder: `refined` for those in the `scan`, else as given."""
    given = read_npy(folder / 'positions.npy')
    if scan.pattern_indexes is None or len(given) == len(refined):
        return refined
    numbers = read_npy(folder / 'pattern_indexes.npy')
    given[np.isin(numbers, scan.pattern_indexes)] = refined
    return given
