"""Atomic writing and writable folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.io.atomic import make_folder, write_atomically


def test_the_target_appears_only_when_the_block_has_succeeded(tmp_path: Path) -> None:
    target = tmp_path / 'new' / 'picture.png'
    with write_atomically(str(target)) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == '.png'
        temporary.write_bytes(b'complete')
        assert not target.exists()
    assert target.read_bytes() == b'complete'
    assert os.listdir(target.parent) == ['picture.png']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / 'metrics.json'
    target.write_text('old')
    with pytest.raises(error), write_atomically(target) as temporary:
        temporary.write_text('half')
        raise error
    assert target.read_text() == 'old'
    assert os.listdir(tmp_path) == ['metrics.json']


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"Cannot write '.*model\.safetensors' \(No space left on device\)"),
        write_atomically(tmp_path / 'model.safetensors'),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_about_another_file_is_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / 'model.safetensors'):
        (tmp_path / 'absent').read_bytes()


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError), write_atomically(tmp_path / 'model.safetensors'):
        pass


def test_writable_folder_makes_parents_and_leaves_no_trace(tmp_path: Path) -> None:
    folder = make_folder(str(tmp_path / 'a' / 'b'))
    assert folder == tmp_path / 'a' / 'b' and os.listdir(folder) == []
    assert make_folder(folder) == folder


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'folder'):
        with pytest.raises(OutputError, match='choose another output folder'):
            make_folder(folder)


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write into every folder')
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match='Permission denied'):
        make_folder(tmp_path)


def test_a_folder_that_is_the_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match='it is a folder'), write_atomically(tmp_path):
        pass
