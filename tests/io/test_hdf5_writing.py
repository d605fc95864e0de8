"""The stream under an HDF5 file takes everything, and keeps what the disk has refused for afterwards."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scans import noise_product

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.io import read_object, write_product
from ptychopinn_reconstructor.io.hdf5_writing import _Stream, write_hdf5
from ptychopinn_reconstructor.io.ptychodus import NUMBERS, fresnel_number_of_product


class Disk:
    """A file that gives and takes at most three bytes at a time, and has room for `room` of them."""

    def __init__(self, room: int = 100, content: bytes = b'') -> None:
        self.room, self.content, self.place = room, bytearray(content), 0
        self.calls = 0

    def write(self, data: Any) -> int:
        self.calls += 1
        part = bytes(data[: min(3, self.room - len(self.content))])
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.calls)
        self.content += part
        return len(part)

    def readinto(self, buffer: Any) -> int:
        part = self.content[self.place : self.place + min(3, len(buffer))]
        buffer[: len(part)] = part
        self.place += len(part)
        return len(part)

    def truncate(self, size: int | None) -> int:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def stream_of(disk: Disk) -> _Stream:
    stream: Any = disk
    return _Stream(stream)


def test_a_disk_that_takes_a_part_gets_the_rest() -> None:
    disk = Disk()
    assert stream_of(disk).write(np.arange(5, dtype='<u2')) == 10
    assert disk.content == np.arange(5, dtype='<u2').tobytes()


def test_what_the_disk_refuses_is_kept_and_nothing_is_tried_again() -> None:
    disk = Disk(room=5)
    stream = stream_of(disk)
    assert stream.write(b'abcdefgh') == 8 and stream.error is not None and stream.error.errno == errno.ENOSPC
    first, calls = stream.error, disk.calls
    assert stream.write(b'ij') == 2 and stream.error is first and disk.calls == calls
    assert disk.content == b'abcde'
    assert stream.truncate(7) == 7 and stream.error is first, 'the first error is the cause'


@pytest.mark.parametrize(('size', 'answer'), [(7, 7), (None, 0)])
def test_a_length_that_is_refused_is_kept_too(size: int | None, answer: int) -> None:
    stream = stream_of(Disk())
    assert stream.truncate(size) == answer and stream.error is not None and stream.error.errno == errno.EFBIG


def test_what_was_never_written_is_read_as_zeros() -> None:
    buffer = bytearray(b'x' * 12)
    assert stream_of(Disk(content=b'abcdefgh')).readinto(buffer) == 12
    assert buffer == b'abcdefgh' + bytes(4)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='a disk that is always full: Linux')
def test_the_error_of_the_disk_is_raised_when_hdf5_has_closed_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def open_full(path: Path, mode: str = 'r', **more: Any) -> Any:
        return opened(Path('/dev/full') if mode == 'w+b' else path, mode, **more)

    monkeypatch.setattr(Path, 'open', open_full)
    with pytest.raises(OutputError, match='No space left on device'), write_hdf5(tmp_path / 'a.h5') as file:
        file['a'] = np.ones(1000)
    assert os.listdir(tmp_path) == []


def test_a_file_written_through_the_stream_is_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 70))
    with write_hdf5(tmp_path / 'a.h5') as file:
        file.create_dataset('a', data=values, chunks=(7, 7), compression='gzip')
        file['b'] = values
        del file['b']
    with h5py.File(tmp_path / 'a.h5') as file:
        assert [*file] == ['a'] and np.array_equal(file['a'][()], values)


def test_numbers_that_a_product_knows_are_there_under_old_and_new_names(tmp_path: Path) -> None:
    """Ptychodus reads each without a default."""
    known = {'photon_energy_eV': 8000.0, 'mass_attenuation_m2_per_kg': 2.5, 'else': 1.0}
    write_product(tmp_path / 'a.h5', noise_product(metadata=known | {'polarization': 'linear'}, losses=()))
    with h5py.File(tmp_path / 'a.h5') as file:
        found = dict(file.attrs)
        size, pixels = file['object'].attrs, file['probe'].attrs
        assert (size['pixel_height_m'], pixels['pixel_width_m']) == (2e-8, 1e-8)
        assert file['loss_values'].shape == file['loss_epochs'].shape == (0,) and file['object'].shape[0] == 1
        assert np.array_equal(file['probe_position_indexes'], np.arange(20))
    assert {key: found[key] for key in NUMBERS} == dict.fromkeys(NUMBERS, 0.0) | {
        key: value for key, value in known.items() if key != 'else'
    }
    assert found['probe_energy_eV'] == 8000.0 and found['mass_attenuation_m2_kg'] == 2.5
    assert found['polarization'] == 'linear' and found['far_field'] and 'else' not in found
    assert 'ptychopinn_fresnel_number' not in found and 'ptychopinn_pixel_size_is_nominal' not in found


def test_a_product_known_in_pixels_only_says_so(tmp_path: Path) -> None:
    write_product(tmp_path / 'a.h5', noise_product(pixel_size=None))
    with h5py.File(tmp_path / 'a.h5') as file:
        assert file.attrs['ptychopinn_pixel_size_is_nominal']
    assert read_object(tmp_path / 'a.h5').pixel_size is None


@pytest.mark.parametrize(
    ('energy', 'distance', 'focus', 'magnification'),
    [(12.398419843320026, 2.0, 0.0, 1), (12.398419843320026, 2.0, -1.0, 3), (12.398419843320026, 2.0, 0.5, 3)],
)
def test_the_fresnel_number_of_a_product_by_hand(
    energy: float, distance: float, focus: float, magnification: float
) -> None:
    """F = p^2 M / (wavelength z), with light of 100 nm."""
    rows, cols = fresnel_number_of_product((2e-6, 1e-6), energy, distance, focus) or (0, 0)
    assert rows == pytest.approx(4e-12 * magnification / (1e-7 * distance))
    assert cols == pytest.approx(1e-12 * magnification / (1e-7 * distance))


@pytest.mark.parametrize('lengths', [(0.0, 2.0, 0.0), (8000.0, 0.0, 0.0), (8000.0, -1.0, 0.0), (8000.0, 2.0, 2.0)])
def test_lengths_that_say_nothing_have_no_fresnel_number(lengths: tuple[float, float, float]) -> None:
    assert fresnel_number_of_product((1e-6, 1e-6), *lengths) is None
