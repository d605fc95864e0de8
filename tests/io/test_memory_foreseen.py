"""Datasets that are read whole are compared with the memory that is there."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scans import noise_product, small_scan

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import (
    memory,
    read_object,
    read_probe,
    read_product,
    read_scan,
    write_cxi,
    write_product,
)


@pytest.fixture
def tiny_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of which one MiB is left."""
    (tmp_path / 'info').write_text('MemAvailable: 1024 kB\n')
    monkeypatch.setattr(memory, 'MEMINFO', tmp_path / 'info')


def enlarge(path: Path, key: str, shape: tuple[int, ...]) -> None:
    """A dataset of this shape in place of one, which takes next to nothing of the file."""
    with h5py.File(path, 'a') as file:
        kind = file[key].dtype
        del file[key]
        file.create_dataset(key, shape, kind, chunks=True, compression='gzip', data=np.ones(shape, kind))


@pytest.mark.usefixtures('tiny_machine')
@pytest.mark.parametrize(('key', 'read'), [('object', read_object), ('probe', read_probe), ('object', read_product)])
def test_an_array_larger_than_the_memory_is_refused_with_the_numbers(key: str, read: object, tmp_path: Path) -> None:
    path = tmp_path / 'product.h5'
    write_product(path, noise_product())
    assert read(path) is not None  # type: ignore[operator]  # as long as it fits
    enlarge(path, key, (1, 512, 512))
    with pytest.raises(ScanError, match=rf"'/{key}' of {path} needs 0\.0 GiB of memory but 0\.0 GiB are available"):
        read(path)  # type: ignore[operator]


@pytest.mark.usefixtures('tiny_machine')
def test_the_patterns_of_a_cxi_file_are_not_read_whole_but_its_probe_is(tmp_path: Path) -> None:
    path = tmp_path / 'scan.cxi'
    write_cxi(path, small_scan(positions=16))
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        probe = next(name for name in names if name.endswith('illumination'))
    enlarge(path, probe, (1, 512, 512))
    with pytest.raises(ScanError, match='illumination'):
        read_scan(path)
