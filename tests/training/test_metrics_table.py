"""metrics.csv: what is written is read back, also what a killed or a resumed training leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.events import Epoch, Event, Progress
from ptychopinn_reconstructor.training.metrics_table import MetricsTable, read_losses


def write(path: Path, *epochs: tuple[int, float, float | None], resume: bool = False) -> list[Event]:
    """Tell a table of epochs, with what else an event of an epoch holds; what was passed on."""
    heard: list[Event] = []
    with MetricsTable(path, resume=resume) as table:
        emit = table.record_epochs(heard.append)
        for epoch, loss, held_out in epochs:
            emit(Epoch('train', epoch, 9, train_loss=loss, val_loss=held_out, learning_rate=1e-3))
            emit(Progress('train', epoch, 9))
    return heard


def test_the_losses_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert read_losses(tmp_path) == []
    heard = write(tmp_path / 'metrics.csv', (1, 3.5, 4.25), (2, 1 / 3, None))
    assert [type(event) for event in heard] == [Epoch, Progress] * 2
    assert read_losses(tmp_path) == [(1, 3.5, 4.25), (2, 1 / 3, None)]


def test_a_resumed_training_replaces_the_epochs_that_no_checkpoint_held(tmp_path: Path) -> None:
    table = tmp_path / 'metrics.csv'
    write(table, (1, 3.0, None), (2, 2.0, None), (3, 1.0, None))
    write(table, (2, 2.5, None), (3, 1.5, None), resume=True)
    assert read_losses(tmp_path) == [(1, 3.0, None), (2, 2.5, None), (3, 1.5, None)]
    write(table, (4, 0.5, None), resume=True)
    assert [row.epoch for row in read_losses(tmp_path)] == [1, 2, 3, 4]
    write(table, (1, 9.0, None))
    assert read_losses(tmp_path) == [(1, 9.0, None)], 'a new training begins a new table'


@pytest.mark.parametrize('torn', ['2', '2,', ',0.5', 'epo'])
def test_half_a_row_of_a_killed_process_is_no_epoch(tmp_path: Path, torn: str) -> None:
    write(tmp_path / 'metrics.csv', (1, 3.0, None))
    with (tmp_path / 'metrics.csv').open('a') as file:
        file.write(torn)
    assert read_losses(tmp_path) == [(1, 3.0, None)]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match='choose another folder'):
        write(tmp_path / 'absent' / 'metrics.csv', (1, 3.0, None))
