"""HDF5 files that lead elsewhere: what may not be followed is refused before anything is read (specs/security.md)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_object, read_scan, write_diffraction, write_product
from ptychopinn_reconstructor.result import Reconstruction

COUNT, SIDE = 12, 16
PATTERNS = np.random.default_rng(0).poisson(30, (COUNT, SIDE, SIDE)).astype(np.uint32)
pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='pipes of POSIX')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of Ptychodus whose diffraction.h5 a test changes, beside a pipe that nobody writes to."""
    scan = tmp_path / 'scan'
    result = Reconstruction(
        object=np.ones((60, 60), np.complex64),
        origin=(30.0, 30.0),
        probe=np.ones((1, SIDE, SIDE), np.complex64),
        positions=np.random.default_rng(1).uniform(-15, 15, (COUNT, 2)),
        pixel_size=(1e-8, 1e-8),
    )
    write_product(scan / 'product.h5', result)
    write_diffraction(scan / 'diffraction.h5', PATTERNS)
    os.mkfifo(scan / 'pipe.h5')
    return scan


def _change(folder: Path, name: str = 'patterns') -> Any:
    file = h5py.File(folder / 'diffraction.h5', 'a')
    if name in file:
        del file[name]
    return file


def _layout(*sources: h5py.VirtualSource) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(PATTERNS.shape, PATTERNS.dtype)
    for source in sources:
        layout[:] = source
    return layout


def _source(file: str, name: str) -> h5py.VirtualSource:
    return h5py.VirtualSource(file, name, PATTERNS.shape)


def _itself(folder: Path) -> None:
    with _change(folder) as file:
        file.create_virtual_dataset('patterns', _layout(_source('.', 'patterns')))


def _itself_by_name(folder: Path) -> None:
    with _change(folder) as file:
        file.create_virtual_dataset('patterns', _layout(_source('diffraction.h5', 'patterns')))


def _itself_by_link(folder: Path) -> None:
    with _change(folder) as file:
        file['other'] = h5py.SoftLink('/patterns')
        file.create_virtual_dataset('patterns', _layout(_source(str(folder / 'diffraction.h5'), 'other')))


def _circle_of_files(folder: Path) -> None:
    with h5py.File(folder / 'second.h5', 'w') as other:
        other.create_virtual_dataset('data', _layout(_source('diffraction.h5', 'patterns')))
    with _change(folder) as file:
        file.create_virtual_dataset('patterns', _layout(_source('second.h5', 'data')))


def _numbered_itself(folder: Path) -> None:
    one, many = (4, SIDE, SIDE), h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple(PATTERNS.shape, (many, SIDE, SIDE))
    space.select_hyperslab((0, 0, 0), (many, 1, 1), (4, 1, 1), one)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_virtual(space, b'part%b.h5', b'patterns', h5py.h5s.create_simple(one))
    (folder / 'part0.h5').symlink_to('diffraction.h5')
    with _change(folder) as file:
        h5py.h5d.create(file.id, b'patterns', h5py.h5t.NATIVE_UINT32, space, dcpl=settings)


def _unused_itself(folder: Path) -> None:
    """Not the patterns but a mask, which is read too."""
    with _change(folder, 'bad_pixels') as file:
        layout = h5py.VirtualLayout((SIDE, SIDE), bool)
        layout[:] = h5py.VirtualSource('.', 'bad_pixels', (SIDE, SIDE))
        file.create_virtual_dataset('bad_pixels', layout)


def _link_to_pipe(folder: Path) -> None:
    with _change(folder) as file:
        file['patterns'] = h5py.ExternalLink('pipe.h5', '/data')


def _absent_link_to_pipe(folder: Path) -> None:
    """HDF5 looks for the last part of a name where the whole of it is not there."""
    with _change(folder) as file:
        file['patterns'] = h5py.ExternalLink('/nowhere/pipe.h5', '/data')


def _second_link_to_pipe(folder: Path) -> None:
    with h5py.File(folder / 'second.h5', 'w') as other:
        other['data'] = h5py.ExternalLink('pipe.h5', '/data')
    with _change(folder) as file:
        file['patterns'] = h5py.ExternalLink('second.h5', '/data')


def _unused_link_to_pipe(folder: Path) -> None:
    with _change(folder, 'entry') as file:
        file['entry/deep/data'] = h5py.ExternalLink('pipe.h5', '/data')


def _source_is_pipe(folder: Path) -> None:
    with _change(folder) as file:
        file.create_virtual_dataset('patterns', _layout(_source('pipe.h5', 'data')))


def _link_to_device(folder: Path) -> None:
    with _change(folder) as file:
        file['patterns'] = h5py.ExternalLink('/dev/zero', '/data')


def _raw(path: str, offset: int = 0, size: int = h5py.h5f.UNLIMITED) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        PATTERNS.tofile(folder.parent / 'secret.raw')
        PATTERNS.tofile(folder / 'short.raw')
        with _change(folder) as file:
            raw = [(path.format(folder=folder), offset, size)]
            file.create_dataset('patterns', PATTERNS.shape, PATTERNS.dtype, external=raw)

    return build


def _declares_too_much(folder: Path) -> None:
    with _change(folder) as file:
        file.create_dataset('patterns', (COUNT, 2**17, 2**17), np.uint32, chunks=(1, 64, 64))


ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    'virtual of itself': (_itself, 'made of itself'),
    'of itself by its name': (_itself_by_name, 'made of itself'),
    'of itself by a link': (_itself_by_link, 'made of itself'),
    'circle of files': (_circle_of_files, 'made of itself'),
    'numbered, itself among them': (_numbered_itself, 'made of itself'),
    'mask of itself': (_unused_itself, 'made of itself'),
    'link to a pipe': (_link_to_pipe, r'pipe\.h5, which is no regular file'),
    'link to an absent file, a pipe of that name': (_absent_link_to_pipe, r'pipe\.h5, which is no regular file'),
    'link in a linked file': (_second_link_to_pipe, r'second\.h5 links .data. to .*pipe\.h5, which is no regular'),
    'link that nobody uses': (_unused_link_to_pipe, r'pipe\.h5, which is no regular file'),
    'source that is a pipe': (_source_is_pipe, r'made of .*pipe\.h5, which is no regular file'),
    'link to a device': (_link_to_device, r'/dev/zero, which is no regular file'),
    'raw storage outside': (_raw('{folder}/../secret.raw'), r'no file in the folder of the scan'),
    'raw storage in the system': (_raw('/etc/passwd'), r'/etc/passwd, which is no file in the folder of the scan'),
    'raw storage in a pipe': (_raw('{folder}/pipe.h5'), r'no file in the folder of the scan'),
    'raw storage that is too short': (_raw('{folder}/short.raw', 4096), r'short\.raw, which holds \d+ bytes'),
    'far more than the file holds': (_declares_too_much, r'declares 768\.0 GiB of values but holds 0\.0 MiB'),
}


@pytest.mark.parametrize(('build', 'words'), ATTACKS.values(), ids=ATTACKS)
def test_what_may_not_be_followed_is_refused(folder: Path, build: Callable[[Path], None], words: str) -> None:
    build(folder)
    with pytest.raises(ScanError, match=words) as caught:
        read_scan(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_a_pipe_or_device_is_no_scan(folder: Path) -> None:
    """Opening a pipe would wait for ever for somebody to write to it."""
    for path in (folder / 'pipe.h5', Path('/dev/null')):
        for read in (read_scan, read_object):
            with pytest.raises(ScanError, match='no regular file'):
                read(path)


def test_pipes_among_images_are_no_images(tmp_path: Path) -> None:
    for name in ('1.tif', 'positions.csv'):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ScanError, match=r'holds no diffraction\.h5'):
        read_scan(tmp_path)


def test_what_lies_outside_of_the_folder_is_read_and_said(folder: Path) -> None:
    """A master file at a beamline leads to the detector's files, wherever these are."""
    with h5py.File(folder.parent / 'detector.h5', 'w') as raw:
        raw['data'] = PATTERNS
    with _change(folder) as file:
        file['linked'] = h5py.ExternalLink('../detector.h5', '/data')
        file.create_virtual_dataset('patterns', _layout(_source('.', 'linked')))
    read = read_scan(folder)
    np.testing.assert_array_equal(np.asarray(read.scan.diffraction), PATTERNS)
    (said,) = [notice.text for notice in read.notices if notice.code == 'outside_files']
    assert str(folder.parent / 'detector.h5') in said


def test_what_lies_beside_is_not_worth_a_word(folder: Path) -> None:
    with h5py.File(folder / 'detector.h5', 'w') as raw:
        raw['data'] = PATTERNS
    with _change(folder) as file:
        file['patterns'] = h5py.ExternalLink('detector.h5', '/data')
    read = read_scan(folder)
    np.testing.assert_array_equal(np.asarray(read.scan.diffraction), PATTERNS)
    assert not [notice for notice in read.notices if notice.code == 'outside_files']


def test_names_of_any_length_have_a_short_place_in_a_message(folder: Path) -> None:
    with _change(folder) as file:
        file['patterns'] = h5py.SoftLink('/' + 'n' * 5000)
        file['m' * 3000] = 1
    with pytest.raises(ScanError, match=r"links 'patterns' to '/nnn") as caught:
        read_scan(folder)
    assert len(str(caught.value)) < 500
