"""A folder that files are put into: images, arrays, and a table of positions that grows."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ...errors import PtychoPINNError
from ...io.tiff import SUFFIXES, read_table
from .source import MOST, Arrival, Source, to_pixels, warn

PAUSE = 0.02  # seconds between two looks, and ten times what one has taken
ATTEMPTS = 50  # to read a file that is still being written, before it is left out
ARRAYS, TABLE = ('.npz', '.npy'), '.csv'


class Folder(Source):
    """TIFF images and NPY arrays with a number in their names, NPZ files, and a CSV table of positions.

    An NPZ file has `patterns` (k, H, W) or `positions` (k, 2) [row, column], or both, and their `index` (k,). The rows
    of the table (see `io.tiff.read_table`) are numbered as the images are, from 0, or from 1 where there is no 0.
    A file is read when it has not changed since the last look.
    """

    def __init__(self, path: Path, pixel_size: float | None = None) -> None:
        self.path, self.pixel_size = path, pixel_size
        self._seen: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self._failed: dict[str, int] = {}
        self._rows: dict[str, int] = {}  # of tables, that were read
        self._tables: dict[str, tuple[int, int]] = {}  # how they were then
        self._waiting: list[str] = []
        self._first: int | None = None  # number of the first image
        self._next = 0.0

    def close(self) -> None:
        """Nothing is open."""

    def poll(self, seconds: float) -> list[Arrival]:
        """What the files hold that are complete, and were not read before."""
        end = time.monotonic() + seconds
        while True:
            found = self._look()
            if found or time.monotonic() >= end:
                return found
            time.sleep(PAUSE)

    def _look(self) -> list[Arrival]:
        if not self._waiting and time.monotonic() >= self._next:
            begin = time.monotonic()
            self._waiting = self._list()
            self._next = time.monotonic() + max(PAUSE, 10 * (time.monotonic() - begin))
        found: list[Arrival] = []
        while self._waiting and sum(len(one.index) for one in found if one.patterns is not None) < MOST:
            name = self._waiting.pop(0)
            try:
                found += self._read(self.path / name)
                self._failed.pop(name, None)
                if not name.lower().endswith(TABLE):
                    self._done.add(name)
                    self._seen.pop(name, None)
            except (PtychoPINNError, OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
                self._fail(name, error)
        return found

    def _list(self) -> list[str]:
        """Names of files that have not changed since the last look and are not read yet, by their numbers."""
        ready, numbers = [], []
        for entry in self.path.iterdir():
            name, suffix = entry.name, entry.suffix.lower()
            if name in self._done or name.startswith('.') or suffix not in (*ARRAYS, *SUFFIXES, TABLE):
                continue
            numbers += [] if suffix in ('.npz', TABLE) else [_number(name)]
            try:
                state = entry.stat()
            except OSError:  # renamed meanwhile
                continue
            now = (state.st_size, state.st_mtime_ns)
            if self._seen.get(name) == now and self._tables.get(name) != now:
                ready.append(name)
            self._seen[name] = now
        if self._first is None and numbers and min(numbers) in (0, 1):
            self._first = min(numbers)
        if self._first is None:  # what the rows of the table are numbered by is not known yet
            ready = [name for name in ready if name.lower().endswith('.npz')]
        return sorted(ready, key=lambda name: (_number(name), name))

    def _fail(self, name: str, error: Exception) -> None:
        self._failed[name] = self._failed.get(name, 0) + 1
        if self._failed[name] >= ATTEMPTS:
            warn(f'{self.path / name} is left out: it cannot be read ({error}).')
            self._done.add(name)

    def _read(self, path: Path) -> list[Arrival]:
        suffix, sent = path.suffix.lower(), path.stat().st_mtime
        if suffix == TABLE:
            return self._read_table(path)
        if suffix == '.npz':
            return [_read_npz(path, self.pixel_size, sent)]
        if suffix == '.npy':
            patterns = np.load(path, allow_pickle=False)
        else:
            import tifffile

            patterns = np.asarray(tifffile.imread(path))
        patterns = patterns[None] if patterns.ndim == 2 else patterns
        first = _number(path.name) - (self._first or 0)
        return [Arrival(np.arange(first, first + len(patterns)), patterns=patterns, sent=sent)]

    def _read_table(self, path: Path) -> list[Arrival]:
        """The rows that are new."""
        state = path.stat()
        positions, unit = read_table(path)
        first = self._rows.get(path.name, 0)
        self._rows[path.name] = len(positions)
        self._tables[path.name] = (state.st_size, state.st_mtime_ns)
        fresh = to_pixels(positions[first:] * (unit or 1.0), 'pixel' if unit is None else 'm', self.pixel_size)
        index = np.arange(first, len(positions))
        return [Arrival(index, positions=fresh, sent=state.st_mtime)] if len(index) else []


def _number(name: str) -> int:
    """The last number in a name, or 0."""
    digits = re.findall(r'\d+', name.rpartition('.')[0])
    return int(digits[-1]) if digits else 0


def _read_npz(path: Path, pixel_size: float | None, sent: float) -> Arrival:
    with np.load(path, allow_pickle=False) as file:
        values: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    patterns, positions = values.get('patterns'), values.get('positions')
    unit = str(values.get('unit', 'pixel'))
    known = None if positions is None else to_pixels(positions, unit, pixel_size)
    return Arrival(values['index'].astype(np.int64), patterns, known, sent)
