"""A training has its folder for itself, leaves nothing of killed ones, and says when it has hardly learned anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from scans import short_config, small_scan

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.events import Event, Progress
from ptychopinn_reconstructor.io.locks import NAME, FolderLock
from ptychopinn_reconstructor.io.system import CAN_LOCK, HOST, lock_file
from ptychopinn_reconstructor.training.train import train


@pytest.mark.skipif(not CAN_LOCK, reason='locks of POSIX')
def test_a_folder_that_another_process_trains_in_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({'host': 'elsewhere', 'pid': 7, 'job': 'training'}))
    with (tmp_path / NAME).open('r+') as other:
        assert lock_file(other)
        with pytest.raises(OutputError, match=r"in use by process 7 on 'elsewhere' \('training'\)"):
            train([small_scan(positions=25)], short_config(), tmp_path)
    assert os.listdir(tmp_path) == [NAME]


def test_a_training_of_one_epoch_on_a_few_patterns_leaves_a_model_and_says_what_it_is(tmp_path: Path) -> None:
    """Parts of files of a killed training are gone, and so is the lock; both are there while it runs."""
    part = tmp_path / 'checkpoints' / f'.last.{HOST}-{2**22 + 9}-0123abcd.partial.ckpt'
    part.parent.mkdir()
    part.write_bytes(b'part')
    seen: set[str] = set()

    def emit(event: Event) -> None:
        if isinstance(event, Progress):
            seen.update(os.listdir(tmp_path))

    config = short_config(training__nepochs=1, training__learning_rate=1e-9, model__n_filters_scale=0.1)
    done = train([small_scan(positions=20)], config, tmp_path, emit=emit)
    (notice,) = [notice for notice in done.notices if notice.code == 'hardly_trained']
    assert done.model.exists() and 'hardly learned anything in 1 epoch:' in notice.text
    assert NAME in seen and NAME not in os.listdir(tmp_path) and not part.exists()
    assert notice.text in json.loads((tmp_path / 'metrics.json').read_text())['notes']
    with FolderLock(tmp_path, 'training'):
        pass
