"""Atomic writing and writable folders."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from full_disk import disk_with_room_for
from scans import noise_product, small_scan

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.io import (
    write_amplitude_phase,
    write_cxi,
    write_diffraction,
    write_npz,
    write_product,
)
from ptychopinn_reconstructor.io.atomic import FORGOTTEN, make_folder, write_atomically
from ptychopinn_reconstructor.io.plain_json import write_json
from ptychopinn_reconstructor.io.system import HOST
from ptychopinn_reconstructor.io.tiff import write_tiff_object


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


def test_what_a_killed_writer_has_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    """A part of a process that runs stays, here or elsewhere, unless it is a day old."""
    gone, running, other, old, foreign = (
        tmp_path / name
        for name in (
            f'.model.{HOST}-{2**22 + 5}-0123abcd.partial.safetensors',
            f'.model.{HOST}-{os.getpid()}-0123abcd.partial.safetensors',
            '.model.elsewhere-1-0123abcd.partial.safetensors',
            '.last.elsewhere-1-0123abcd.partial.ckpt',
            '.mine.partial',
        )
    )
    for path in (gone, running, other, old, foreign):
        path.write_bytes(b'part')
    os.utime(old, (old.stat().st_mtime - FORGOTTEN - 60,) * 2)
    make_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {running.name, other.name, foreign.name}


WRITERS: dict[str, Callable[[Path], Any]] = {
    'scan.npz': lambda path: write_npz(path, small_scan()),
    'packed.npz': lambda path: write_npz(path, small_scan(), compressed=True),
    'scan.cxi': lambda path: write_cxi(path, small_scan()),
    'product.h5': lambda path: write_product(path, noise_product()),
    'diffraction.h5': lambda path: write_diffraction(path, small_scan().diffraction),
    'object.tif': lambda path: write_tiff_object(path, noise_product().object, None),
    'object.png': lambda path: write_amplitude_phase(path.parent, noise_product().object),
    'metrics.json': lambda path: write_json(path, {'numbers': [*range(9000)]}),
}


@pytest.mark.skipif(sys.platform == 'win32', reason='limits of POSIX')
@pytest.mark.parametrize('name', WRITERS)
def test_a_disk_that_fills_while_a_file_is_written_leaves_the_one_before(name: str, tmp_path: Path) -> None:
    """Whichever the format: one sentence, the earlier files byte by byte, nothing beside them."""
    write = WRITERS[name]
    write(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    size = max(len(content) for content in before.values())
    for room in sorted({0, 1, 512, 4096, size // 2, size - 1}):
        if room >= min(len(content) for content in before.values()):
            continue
        with disk_with_room_for(room), pytest.raises(OutputError, match=r"Cannot write '.*' \(File too large\)"):
            write(tmp_path / name)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, room
