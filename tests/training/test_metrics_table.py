"""metrics.csv: what is written is read back, also what a killed or a resumed training leaves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from full_disk import disk_with_room_for

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


@pytest.mark.parametrize('torn', ['2', '2,', ',0.5', 'epo', '2,0.4', '2,0.4,,0.001,100,7.', '2,x,,,,\n', '\0\xff\n'])
def test_half_a_row_of_a_killed_process_is_no_epoch(tmp_path: Path, torn: str) -> None:
    write(tmp_path / 'metrics.csv', (1, 3.0, None))
    with (tmp_path / 'metrics.csv').open('a') as file:
        file.write(torn)
    assert read_losses(tmp_path) == [(1, 3.0, None)]


def test_a_resumed_training_writes_below_whole_rows_only(tmp_path: Path) -> None:
    table = tmp_path / 'metrics.csv'
    write(table, (1, 3.0, None))
    with table.open('a') as file:
        file.write('2,0.4')
    write(table, (2, 2.0, None), resume=True)
    assert read_losses(tmp_path) == [(1, 3.0, None), (2, 2.0, None)]


@pytest.mark.parametrize('content', [b'', b'1,3.0\n', b'\xff\xfe\n', b'a,b\n1,2\n', b'"' * 200_000 + b'\n'])
def test_a_table_without_its_header_holds_no_epochs_and_begins_anew(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / 'metrics.csv'
    table.write_bytes(content)
    assert read_losses(tmp_path) == []
    write(table, (1, 3.0, None), resume=True)
    assert read_losses(tmp_path) == [(1, 3.0, None)]


def test_a_table_is_whole_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the epochs that no checkpoint held are replaced: a failure then leaves the table of before."""
    table = tmp_path / 'metrics.csv'
    write(table, (1, 3.0, None), (2, 2.0, None))
    before = table.read_bytes()
    monkeypatch.setattr(os, 'replace', _fail)
    with pytest.raises(KeyboardInterrupt):
        write(table, (2, 2.5, None), resume=True)
    assert table.read_bytes() == before and os.listdir(tmp_path) == ['metrics.csv']


def _fail(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform == 'win32', reason='limits of POSIX')
def test_a_full_disk_is_one_sentence_and_keeps_the_whole_rows(tmp_path: Path) -> None:
    table = tmp_path / 'metrics.csv'
    write(table, (1, 3.0, None))
    with disk_with_room_for(table.stat().st_size + 5), pytest.raises(OutputError, match='free some space'):
        write(table, (2, 2.0, None), resume=True)
    assert read_losses(tmp_path) == [(1, 3.0, None)]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='choose another output folder'):
        write(tmp_path / 'file' / 'metrics.csv', (1, 3.0, None))
