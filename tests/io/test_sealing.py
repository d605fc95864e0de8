"""Sealed zip archives: any damage is found before anything is loaded."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.io.sealing import check_seal, open_sealed, seal, write_sealed


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / 'last.ckpt'
    with write_sealed(path) as temporary, zipfile.ZipFile(temporary, 'w') as file:
        file.writestr('data', np.random.default_rng(0).bytes(3000))
    return path


def test_a_sealed_archive_is_still_one(archive: Path) -> None:
    check_seal(archive)
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None and len(file.read('data')) == 3000
    assert os.listdir(archive.parent) == ['last.ckpt']


def test_every_truncation_and_every_flipped_bit_is_found(archive: Path) -> None:
    content = archive.read_bytes()
    for length in range(0, len(content), 97):
        archive.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r'damaged or not one of ours'):
            check_seal(archive)
    for place in [*range(0, len(content), 97), *range(len(content) - 94, len(content))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        archive.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=r'damaged or not one of ours'):
            check_seal(archive)
    archive.write_bytes(content + b'\0')
    with pytest.raises(ModelFileError, match='does not end with its SHA-256'):
        check_seal(archive)


def test_an_archive_that_nobody_sealed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'last.keras'
    zipfile.ZipFile(path, 'w').close()
    with pytest.raises(ModelFileError, match='does not end with its SHA-256'):
        check_seal(path)
    seal(path)
    check_seal(path)
    with pytest.raises(ModelFileError, match=r'absent.*cannot be read'):
        check_seal(tmp_path / 'absent')


@pytest.mark.parametrize('error', [RuntimeError('weights_only=False'), MemoryError(), RecursionError(), KeyError('x')])
def test_what_a_framework_says_becomes_our_own_sentence(archive: Path, error: Exception) -> None:
    with (
        pytest.raises(ModelFileError, match=r'cannot be resumed from \(\w+\).*never loaded') as raised,
        open_sealed(archive),
    ):
        raise error
    assert 'weights_only' not in str(raised.value)
