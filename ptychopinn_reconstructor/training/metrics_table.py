"""metrics.csv, the losses of a training with one row for each epoch: reading and writing."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from ..errors import OutputError
from ..events import Emit, Epoch, Event

NAME = 'metrics.csv'
COLUMNS = ('epoch', 'train_loss', 'val_loss', 'learning_rate', 'patterns_seen', 'cpu_seconds')


class EpochLosses(NamedTuple):
    """Losses of one epoch; `val_loss` is None where nothing was held out."""

    epoch: int
    train_loss: float
    val_loss: float | None


def read_losses(folder: Path) -> list[EpochLosses]:
    """Losses of each complete epoch of the training in `folder`; empty without a metrics.csv."""
    path = folder / NAME
    return [_parse_losses(row) for row in _read_rows(path) if row.get('train_loss')] if path.exists() else []


def _parse_losses(row: Mapping[str, str]) -> EpochLosses:
    held_out = row.get('val_loss')
    return EpochLosses(int(row['epoch']), float(row['train_loss']), float(held_out) if held_out else None)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows that hold an epoch's number: a killed process may leave half a row."""
    with path.open(newline='') as file:
        return [row for row in csv.DictReader(file) if (row.get('epoch') or '').isdigit()]


class MetricsTable:
    """metrics.csv: a row an epoch, on disk as soon as it happens; a resumed run goes on below what it resumes.

    Written from the events, since Lightning's CSV logger deletes the earlier rows when a run is resumed.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path, self.resume = path, resume

    def __enter__(self) -> Self:
        fresh = not (self.resume and self.path.exists())
        try:
            self._file = self.path.open('w' if fresh else 'a', newline='')
        except OSError as error:
            raise OutputError(f'Cannot write {self.path} ({error.strerror}); choose another folder.') from error
        self._writer = csv.DictWriter(self._file, COLUMNS)
        if fresh:
            self._writer.writeheader()
            self._file.flush()
        self._known = {int(row['epoch']) for row in _read_rows(self.path)}
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _write(self, epoch: Epoch) -> None:
        if epoch.epoch in self._known:  # a kill came between this row and its checkpoint
            kept = [earlier for earlier in _read_rows(self.path) if int(earlier['epoch']) < epoch.epoch]
            self._file.seek(0)
            self._file.truncate()
            self._writer.writeheader()
            self._writer.writerows(kept)
            self._known = {int(earlier['epoch']) for earlier in kept}
        self._known.add(epoch.epoch)
        self._writer.writerow({name: getattr(epoch, name) for name in COLUMNS})
        self._file.flush()

    def record_epochs(self, emit: Emit) -> Emit:
        """Callback `emit` that also writes each epoch to the table."""

        def emit_and_record(event: Event) -> None:
            if isinstance(event, Epoch):
                self._write(event)
            emit(event)

        return emit_and_record
