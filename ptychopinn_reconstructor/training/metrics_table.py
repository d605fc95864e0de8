"""metrics.csv, the losses of a training with one row for each epoch: reading and writing."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from ..errors import OutputError
from ..events import Emit, Epoch, Event
from ..io.atomic import write_atomically

NAME = 'metrics.csv'
COLUMNS = ('epoch', 'train_loss', 'val_loss', 'learning_rate', 'patterns_seen', 'cpu_seconds')


class EpochLosses(NamedTuple):
    """Losses of one epoch; `val_loss` is None where nothing was held out."""

    epoch: int
    train_loss: float
    val_loss: float | None


def read_losses(folder: Path) -> list[EpochLosses]:
    """Losses of each complete epoch of the training in `folder`; empty without a metrics.csv."""
    return [_parse_losses(row) for row in _read_rows(folder / NAME) if row.get('train_loss')]


def _parse_losses(row: Mapping[str, str]) -> EpochLosses:
    held_out = row.get('val_loss')
    return EpochLosses(int(row['epoch']), float(row['train_loss']), float(held_out) if held_out else None)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Complete rows of a table; none without one. A killed process, or a full disk, may leave half a line."""
    try:
        text = path.read_bytes().decode('utf-8', 'replace')
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f'Cannot read {path} ({error.strerror}); check its permissions.') from error
    lines = text[: text.rfind('\n') + 1].splitlines()
    try:
        return [row for row in csv.DictReader(lines) if _is_row(row)]
    except csv.Error:  # not a table at all
        return []


def _is_row(row: Mapping[str, str | None]) -> bool:
    """Whether a row is one of ours: an epoch, and numbers or nothing in the other columns."""
    if not (row.get('epoch') or '').isdecimal():
        return False
    try:
        for name in COLUMNS:
            float(row.get(name) or 0)
    except ValueError:
        return False
    return True


class MetricsTable:
    """metrics.csv: a row an epoch, on disk as soon as it happens; a resumed run goes on below what it resumes.

    Written from the events, since Lightning's CSV logger deletes the earlier rows when a run is resumed. A row is
    appended in one piece; whatever else changes in the table makes a new file of it.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path, self.resume = path, resume

    def __enter__(self) -> Self:
        self._rows = {int(row['epoch']): row for row in _read_rows(self.path)} if self.resume else {}
        self._replace()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _replace(self) -> None:
        """Write the header and all known rows to a new file, and append to that from now on."""
        with write_atomically(self.path) as temporary, temporary.open('w', newline='') as file:
            file.write(_format_row({name: name for name in COLUMNS}))
            file.writelines(_format_row(row) for row in self._rows.values())
        self._file = self.path.open('ab', buffering=0)

    def _write(self, epoch: Epoch) -> None:
        row = {name: getattr(epoch, name) for name in COLUMNS}
        repeated = epoch.epoch in self._rows  # a kill came between this row and its checkpoint
        self._rows = {number: kept for number, kept in self._rows.items() if number < epoch.epoch} | {epoch.epoch: row}
        if repeated:
            self._file.close()
            self._replace()
            return
        line = _format_row(row).encode()
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(f'Cannot write {self.path} ({error.strerror}); free some space.') from error

    def record_epochs(self, emit: Emit) -> Emit:
        """Callback `emit` that also writes each epoch to the table."""

        def emit_and_record(event: Event) -> None:
            if isinstance(event, Epoch):
                self._write(event)
            emit(event)

        return emit_and_record


def _format_row(row: Mapping[str, object]) -> str:
    line = io.StringIO(newline='')
    csv.DictWriter(line, COLUMNS, extrasaction='ignore').writerow(row)
    return line.getvalue()
