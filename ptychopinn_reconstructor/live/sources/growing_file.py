"""An HDF5 file that is written while it is read (SWMR)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, ScanError
from ...io.hdf5 import open_file
from ...io.links import check_storage
from .source import MOST, Arrival, Source, to_pixels

# What a dataset may be called where no key names it; `rows` and `columns` in place of `positions`.
NAMES: dict[str, tuple[str, ...]] = {
    'patterns': ('patterns', 'diffraction', 'diff3d', 'entry/data/data', 'entry_1/data_1/data'),
    'positions': ('positions', 'entry/positions'),
    'rows': ('rows', 'ycoords'),
    'columns': ('columns', 'xcoords'),
    'indexes': ('indexes',),
    'position_indexes': ('position_indexes', 'probe_position_indexes'),
}
PAUSE = 0.02  # seconds between two looks at the file
REOPENED_AFTER = 2.0  # seconds without anything new: its writer may have closed it


class GrowingFile(Source):
    """Rows of the datasets of a file that may still be missing, and grows until its writer closes it.

    `patterns` (n, H, W), `positions` (n, 2) [row, column] with the attribute `units`, or `rows` and `columns`;
    `indexes` and `position_indexes` where row i of both is not the same pattern. `keys` name them where they are called
    otherwise. Rows at the end that hold the fill value alone are not written yet.
    """

    def __init__(self, path: Path, pixel_size: float | None = None, keys: Mapping[str, str] | None = None) -> None:
        self.path, self.pixel_size, self.keys = path, pixel_size, dict(keys or {})
        if unknown := self.keys.keys() - NAMES.keys():
            raise ConfigError(f'There is no dataset {sorted(unknown)[0]!r}; the keys are {", ".join(NAMES)}.')
        self._file: Any = None
        self._read = {'patterns': 0, 'positions': 0}
        self._complete, self._news = False, time.monotonic()

    def poll(self, seconds: float) -> list[Arrival]:
        """The rows that were written since, of patterns and of positions."""
        end = time.monotonic() + seconds
        while True:
            found = self._look()
            if found or time.monotonic() >= end or self.over:
                return found
            time.sleep(PAUSE)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _look(self) -> list[Arrival]:
        if self._file is None and not self._open():
            return []
        found = [arrival for arrival in (self._take_patterns(), self._take_positions()) if arrival is not None]
        if found:
            self._news = time.monotonic()
        elif self._complete:
            self.over = True
        elif time.monotonic() - self._news > REOPENED_AFTER:
            self.close()  # opened again without SWMR where the writer has gone: then all of it is there
            self._news = time.monotonic()
        return found

    def _open(self) -> bool:
        """Open the file if it is there with its patterns."""
        if not self.path.exists():
            return False
        try:
            self._file = open_file(self.path)
        except (OSError, ScanError):  # begun, but not yet in the state that others may read
            return False
        patterns = self._find('patterns')
        if patterns is None:
            complete, names = not self._file.swmr_mode, sorted(self._file)
            self.close()
            if complete:
                raise ScanError(f'{self.path} holds {", ".join(names)} but no patterns; name theirs (keys=).')
            return False
        check_storage(patterns, open_file)
        self._complete = not self._file.swmr_mode
        return True

    def _find(self, name: str) -> Any:
        if name in self.keys:
            if self.keys[name] not in self._file and not self._file.swmr_mode:
                raise ScanError(f'{self.path} has no dataset {self.keys[name]}; name another (keys=).')
            return self._file.get(self.keys[name])
        return next((self._file[key] for key in NAMES[name] if key in self._file), None)

    def _take(self, name: str, dataset: Any, count: int) -> NDArray[Any]:
        """The next rows of a dataset, without those at its end that are not written yet."""
        first = self._read['patterns' if name == 'patterns' else 'positions']
        if self._file.swmr_mode:
            dataset.id.refresh()
        values = np.asarray(dataset[first : min(first + count, len(dataset))])
        if not self._complete and first + len(values) == len(dataset):
            fill = np.asarray(dataset.fillvalue)
            empty = np.isnan(values) if values.dtype.kind == 'f' and np.isnan(fill) else values == fill
            written = np.flatnonzero(~empty.reshape(len(values), math.prod(values.shape[1:])).all(axis=1))
            values = values[: int(written[-1]) + 1 if len(written) else 0]
        return values

    def _take_patterns(self) -> Arrival | None:
        patterns = self._take('patterns', self._find('patterns'), MOST)
        return self._hand_over('patterns', 'indexes', patterns)

    def _take_positions(self) -> Arrival | None:
        dataset, count = self._find('positions'), 1 << 20
        if dataset is not None:
            values = self._take('positions', dataset, count)
        else:
            parts = [self._find(name) for name in ('rows', 'columns')]
            if None in parts:
                return None
            dataset = parts[0]
            read = [self._take(name, part, count) for name, part in zip(('rows', 'columns'), parts, strict=True)]
            both = min(map(len, read))
            values = np.stack([one[:both] for one in read], axis=1)
        unit = dataset.attrs.get('units', 'pixel')
        unit = unit.decode() if isinstance(unit, bytes) else str(unit)
        return self._hand_over('positions', 'position_indexes', to_pixels(values, unit, self.pixel_size))

    def _hand_over(self, what: str, indexed_by: str, values: NDArray[Any]) -> Arrival | None:
        first = self._read[what]
        indexes = self._find(indexed_by)
        index = np.arange(first, first + len(values), dtype=np.int64)
        if indexes is not None:
            if self._file.swmr_mode:
                indexes.id.refresh()
            index = np.asarray(indexes[first : first + len(values)]).astype(np.int64)
            values = values[: len(index)]
        if not len(values):
            return None
        self._read[what] += len(values)
        return Arrival(index, patterns=values) if what == 'patterns' else Arrival(index, positions=values)
