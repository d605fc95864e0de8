"""Checkpoints of both backends: whole or the one before, and no damaged or foreign one is ever loaded."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from frameworks import needs
from full_disk import disk_with_room_for
from scans import short_config, small_scan

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError, OutputError
from ptychopinn_reconstructor.io.sealing import seal
from ptychopinn_reconstructor.training.train import train

GOLDEN = Path(__file__).parents[1] / 'golden'
BOTH = pytest.mark.parametrize(
    ('backend', 'name'),
    [
        pytest.param('torch', 'last.ckpt', marks=needs('torch')),
        pytest.param('tensorflow', 'last.keras', marks=needs('tensorflow')),
    ],
)


def _narrow(backend: str) -> Config:
    return short_config(
        model__n_filters_scale=0.1, training__nepochs=4, training__batch_size=8, execution__backend=backend
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / 'checkpoints').mkdir()
    return tmp_path


@BOTH
def test_a_damaged_checkpoint_is_one_sentence_and_nothing_is_trained(backend: str, name: str, folder: Path) -> None:
    """Truncations, flipped bits, another file in its place, and a sealed one that holds something else."""
    content = (GOLDEN / name).read_bytes()
    last, scan = folder / 'checkpoints' / name, small_scan()
    rng = np.random.default_rng(0)
    for step in range(4):
        damaged = bytearray(content[: int(rng.integers(len(content)))] if step % 2 else content)
        if step % 2 == 0:
            damaged[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        last.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=rf'The checkpoint .*{name} is damaged or not one of ours'):
            train([scan], _narrow(backend), folder, resume=True)
        assert last.read_bytes() == damaged and not (folder / 'model.safetensors').exists()


@BOTH
def test_a_checkpoint_of_another_network_is_refused(backend: str, name: str, folder: Path) -> None:
    """Though its seal is right: 32 pixels and a tenth of the filters, where others are asked for."""
    shutil.copy(GOLDEN / name, folder / 'checkpoints' / name)
    config = _narrow(backend).merged({'model': {'n_filters_scale': 0.2}})
    with pytest.raises(ModelFileError, match=r'another network'):
        train([small_scan()], config, folder, resume=True)


@needs('torch')
def test_a_pickle_under_the_name_of_a_checkpoint_is_never_executed(folder: Path) -> None:
    """Nor does the sentence pass on PyTorch's advice to do so."""
    torch: ModuleType = pytest.importorskip('torch')
    last = folder / 'checkpoints' / 'last.ckpt'
    torch.save({'state_dict': {}, 'evil': _Evil(folder / 'executed')}, last)
    seal(last)
    with pytest.raises(ModelFileError, match='never loaded') as raised:
        train([small_scan()], _narrow('torch'), folder, resume=True)
    assert 'weights_only' not in str(raised.value) and not (folder / 'executed').exists()


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.skipif(sys.platform == 'win32', reason='limits of POSIX')
@BOTH
def test_a_save_that_fails_leaves_the_checkpoint_before(backend: str, name: str, folder: Path) -> None:
    """At several sizes of a full disk, with the temporary folder on another one; nothing lies beside it."""
    shutil.copy(GOLDEN / name, folder / 'checkpoints' / name)
    content = (GOLDEN / name).read_bytes()
    for room in (0, 100, len(content) // 3, len(content) - 1):
        with disk_with_room_for(room), pytest.raises(OutputError, match=r"Cannot write '.*last\..*'"):
            _save_again(backend, folder / 'checkpoints' / name)
        assert [path.name for path in (folder / 'checkpoints').iterdir()] == [name]
        assert (folder / 'checkpoints' / name).read_bytes() == content


def _save_again(backend: str, path: Path) -> None:
    if backend == 'torch':
        from ptychopinn_reconstructor.backends.torch_lightning.checkpoints import SealedCheckpointIO, read_checkpoint

        SealedCheckpointIO().save_checkpoint(read_checkpoint(path), path)
    else:
        from ptychopinn_reconstructor.backends.tensorflow_keras.training import load

        load(path).save(path)
