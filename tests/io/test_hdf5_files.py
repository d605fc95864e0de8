"""HDF5 files that are more than one plain file: links, virtual datasets, filters, writers (specs/data_contracts.md)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import lazy, read_scan, write_diffraction, write_product
from ptychopinn_reconstructor.io.scratch import Scratch
from ptychopinn_reconstructor.result import Reconstruction

COUNT, SIDE = 12, 16
PATTERNS = np.random.default_rng(0).poisson(30, (COUNT, SIDE, SIDE)).astype(np.uint32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of Ptychodus whose diffraction.h5 a test changes."""
    random = np.random.default_rng(1)
    result = Reconstruction(
        object=np.ones((60, 60), np.complex64),
        origin=(30.0, 30.0),
        probe=np.ones((1, SIDE, SIDE), np.complex64),
        positions=random.uniform(-15, 15, (COUNT, 2)),
        pixel_size=(1e-8, 1e-8),
    )
    write_product(tmp_path / 'product.h5', result)
    write_diffraction(tmp_path / 'diffraction.h5', PATTERNS)
    (tmp_path / 'raw').mkdir()
    return tmp_path


@pytest.fixture(params=[False, True], ids=['small', 'large'])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the patterns are too large to be read at once; 64 MiB of them would take seconds."""
    if request.param:
        monkeypatch.setattr(lazy, 'LARGE', 1000)
    return bool(request.param)


@contextmanager
def _changed(folder: Path) -> Iterator[Any]:
    with h5py.File(folder / 'diffraction.h5', 'a') as file:
        del file['patterns']
        yield file


def _write_raw(folder: Path, name: str = 'data.h5', values: NDArray[Any] = PATTERNS, **settings: Any) -> Path:
    with h5py.File(folder / 'raw' / name, 'w') as file:
        file.create_dataset('entry/data/data', data=values, **settings)
    return folder / 'raw' / name


def _virtual(folder: Path, *sources: tuple[str, int]) -> None:
    """Patterns put together from files of raw/: (name, patterns), one after the other."""
    layout = h5py.VirtualLayout((sum(n for _, n in sources), SIDE, SIDE), PATTERNS.dtype)
    begin = 0
    for name, n in sources:
        layout[begin : begin + n] = h5py.VirtualSource(f'raw/{name}', 'entry/data/data', (n, SIDE, SIDE))
        begin += n
    with _changed(folder) as file:
        file.create_virtual_dataset('patterns', layout)


def _read(folder: Path) -> NDArray[Any]:
    diffraction = read_scan(folder).scan.diffraction
    return np.asarray(diffraction[np.array([7, 2, 2, 11])])


def _link_external(folder: Path) -> None:
    _write_raw(folder)
    with _changed(folder) as file:
        file['patterns'] = h5py.ExternalLink('raw/data.h5', '/entry/data/data')
        file['dark'] = np.full(PATTERNS.shape, 7, np.uint32)  # large and contiguous, and must not be taken for patterns


def _link_group(folder: Path) -> None:
    _write_raw(folder)
    with _changed(folder) as file:
        file['entry'] = h5py.ExternalLink('raw/data.h5', '/entry')
        file['patterns'] = h5py.SoftLink('/entry/data/data')


def _make_virtual(folder: Path) -> None:
    for i in range(3):
        _write_raw(folder, f'{i}.h5', PATTERNS[4 * i : 4 * i + 4], compression='gzip')
    _virtual(folder, *((f'{i}.h5', 4) for i in range(3)))


def _make_nested(folder: Path) -> None:
    _link_external(folder)
    layout = h5py.VirtualLayout(PATTERNS.shape, PATTERNS.dtype)
    layout[:] = h5py.VirtualSource('.', 'linked', PATTERNS.shape)
    with _changed(folder) as file:
        file['linked'] = h5py.ExternalLink('raw/data.h5', '/entry/data/data')
        file.create_virtual_dataset('patterns', layout)


def _number_parts(folder: Path) -> None:
    """A virtual dataset without a limit: as many files of four patterns as there are, by their numbers."""
    for i in range(3):
        _write_raw(folder, f'{i}.h5', PATTERNS[4 * i : 4 * i + 4])
    one, many = (4, SIDE, SIDE), h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple(PATTERNS.shape, (many, SIDE, SIDE))
    space.select_hyperslab((0, 0, 0), (many, 1, 1), (4, 1, 1), one)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_virtual(space, b'raw/%b.h5', b'entry/data/data', h5py.h5s.create_simple(one))
    with _changed(folder) as file:
        h5py.h5d.create(file.id, b'patterns', h5py.h5t.NATIVE_UINT32, space, dcpl=settings)


def _grow_part(folder: Path) -> None:
    """A virtual dataset that follows one of which the end is open."""
    _write_raw(folder, maxshape=(None, SIDE, SIDE))
    many = h5py.h5s.UNLIMITED
    layout = h5py.VirtualLayout(PATTERNS.shape, PATTERNS.dtype, maxshape=(None, SIDE, SIDE))
    source = h5py.VirtualSource('raw/data.h5', 'entry/data/data', PATTERNS.shape, maxshape=(None, SIDE, SIDE))
    layout[0:many] = source[0:many]
    with _changed(folder) as file:
        file.create_virtual_dataset('patterns', layout)


def _link_symbolically(folder: Path) -> None:
    """The master file in another folder, beside its parts, and a symbolic link to it here."""
    _make_virtual(folder)
    (folder / 'detector').mkdir()
    (folder / 'diffraction.h5').rename(folder / 'detector' / 'diffraction.h5')
    (folder / 'raw').rename(folder / 'detector' / 'raw')
    (folder / 'diffraction.h5').symlink_to('detector/diffraction.h5')


def _add_user_block(folder: Path) -> None:
    path = folder / 'diffraction.h5'
    with h5py.File(path, 'w', userblock_size=1024) as file:
        file['patterns'], file['indexes'] = PATTERNS, np.arange(COUNT)
    with path.open('rb+') as stream:
        stream.write(b'# made at the beamline\n')


def _store_outside(folder: Path) -> None:
    PATTERNS.tofile(folder / 'raw' / 'data.raw')
    with _changed(folder) as file:
        raw = [(str(folder / 'raw' / 'data.raw'), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset('patterns', PATTERNS.shape, PATTERNS.dtype, external=raw)


def _swap_bytes(folder: Path) -> None:
    with _changed(folder) as file:
        file['patterns'] = PATTERNS.astype('>u4')


def _compress(**settings: Any) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        with _changed(folder) as file:
            file.create_dataset('patterns', data=PATTERNS, chunks=(5, SIDE, SIDE), **settings)

    return build


LAYOUTS: dict[str, Callable[[Path], None]] = {
    'external link': _link_external,
    'link to a linked group': _link_group,
    'virtual': _make_virtual,
    'virtual over a link': _make_nested,
    'virtual of numbered files': _number_parts,
    'virtual without an end': _grow_part,
    'virtual behind a symbolic link': _link_symbolically,
    'user block': _add_user_block,
    'external storage': _store_outside,
    'big-endian': _swap_bytes,
    'chunks': _compress(),
    'gzip and shuffle': _compress(compression='gzip', shuffle=True),
    'bitshuffle': _compress(**hdf5plugin.Bitshuffle()),
    'lz4': _compress(**hdf5plugin.LZ4()),
    'zstd': _compress(**hdf5plugin.Zstd()),
    'blosc': _compress(**hdf5plugin.Blosc()),
}


@pytest.mark.usefixtures('large')
@pytest.mark.parametrize('build', LAYOUTS.values(), ids=LAYOUTS)
def test_patterns_are_read_however_they_are_stored(folder: Path, build: Callable[[Path], None]) -> None:
    """D33: small and large, in any order."""
    build(folder)
    np.testing.assert_array_equal(_read(folder), PATTERNS[[7, 2, 2, 11]])


def _lose_file(folder: Path) -> None:
    with _changed(folder) as file:
        file['patterns'] = h5py.ExternalLink('raw/gone.h5', '/entry/data/data')


def _lose_name(folder: Path) -> None:
    _write_raw(folder)
    with _changed(folder) as file:
        file['patterns'] = h5py.ExternalLink('raw/data.h5', '/entry/data/frames')


def _lose_soft(folder: Path) -> None:
    with _changed(folder) as file:
        file['patterns'] = h5py.SoftLink('/measurement/frames')


def _lose_second(folder: Path) -> None:
    with h5py.File(folder / 'raw' / 'master.h5', 'w') as file:
        file['data'] = h5py.ExternalLink('data_000001.h5', '/entry/data/data')
    with _changed(folder) as file:
        file['patterns'] = h5py.ExternalLink('raw/master.h5', '/data')


def _lose_part(folder: Path) -> None:
    _make_virtual(folder)
    (folder / 'raw' / '1.h5').unlink()


def _lose_part_name(folder: Path) -> None:
    _make_virtual(folder)
    with h5py.File(folder / 'raw' / '1.h5', 'w') as file:
        file['something'] = 1


def _lose_number(folder: Path) -> None:
    _number_parts(folder)
    (folder / 'raw' / '1.h5').unlink()


def _shorten_part(folder: Path) -> None:
    _make_virtual(folder)
    _write_raw(folder, '2.h5', PATTERNS[:3])


def _leave_gap(folder: Path) -> None:
    _write_raw(folder)
    layout = h5py.VirtualLayout(PATTERNS.shape, PATTERNS.dtype)
    layout[:5] = h5py.VirtualSource('raw/data.h5', 'entry/data/data', PATTERNS.shape)[:5]
    with _changed(folder) as file:
        file.create_virtual_dataset('patterns', layout)


def _lose_raw(folder: Path) -> None:
    _store_outside(folder)
    (folder / 'raw' / 'data.raw').unlink()


def _damage_linked(folder: Path) -> None:
    path = _write_raw(folder)
    path.write_bytes(path.read_bytes()[:3000])
    with _changed(folder) as file:
        file['patterns'] = h5py.ExternalLink('raw/data.h5', '/entry/data/data')


def _lose_mask(folder: Path) -> None:
    with h5py.File(folder / 'diffraction.h5', 'a') as file:
        del file['bad_pixels']
        file['bad_pixels'] = h5py.ExternalLink('mask.h5', '/mask')


LOSSES: dict[str, tuple[Callable[[Path], None], str]] = {
    'file of a link': (_lose_file, r"links 'patterns' to '/entry/data/data' of .*gone\.h5, but that file is not there"),
    'name in a linked file': (_lose_name, r'/entry/data/frames. of .*data\.h5, but that name is not there'),
    'soft link': (_lose_soft, r"links 'patterns' to '/measurement/frames', but that name is not there"),
    'link of a linked file': (
        _lose_second,
        r"master\.h5 links 'data' to .*data_000001\.h5, but that file is not there",
    ),
    'part of a virtual dataset': (_lose_part, r'lacks a part: .*1\.h5 is not there'),
    'number of a virtual dataset': (_lose_number, r'lacks a part: .*1\.h5 is not there'),
    'name of a part': (_lose_part_name, r"lacks a part: 'entry/data/data' of .*1\.h5 is not there"),
    'end of a part': (_shorten_part, r'lacks a part: .*2\.h5 holds \(3, 16, 16\)'),
    'gap': (_leave_gap, r'no file provides 7 of its 12 entries \(the first is 5\)'),
    'external storage': (_lose_raw, r'data\.raw, which is not there'),
    'damaged file of a link': (_damage_linked, r'data\.h5, to which .*diffraction\.h5 links, is damaged'),
    'mask': (_lose_mask, r"links 'bad_pixels' to '/mask' of .*mask\.h5"),
}


@pytest.mark.usefixtures('large')
@pytest.mark.parametrize(('build', 'words'), LOSSES.values(), ids=LOSSES)
def test_what_is_lost_is_named_and_never_filled_in(folder: Path, build: Callable[[Path], None], words: str) -> None:
    """D38: HDF5 fills lost parts with a constant."""
    build(folder)
    with pytest.raises(ScanError, match=words) as caught:
        read_scan(folder)
    assert 'diffraction.h5 is damaged' not in str(caught.value)


def test_a_missing_filter_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D38: the file is not called damaged."""
    _compress(**hdf5plugin.Bitshuffle())(folder)
    monkeypatch.setattr(h5py.h5z, 'filter_avail', lambda code: code < 32000)
    with pytest.raises(ScanError, match=r'filter 32008.*bitshuffle.*install hdf5plugin') as caught:
        read_scan(folder)
    assert 'damaged' not in str(caught.value)


def test_hdf5plugin_is_loaded_only_for_a_file_that_needs_it(folder: Path) -> None:
    """D1."""
    code = 'import sys\nfrom ptychopinn_reconstructor.io import read_scan\nread_scan(sys.argv[1])\n'
    code += "assert ('hdf5plugin' in sys.modules) == bool(int(sys.argv[2]))\n"
    subprocess.run([sys.executable, '-c', code, str(folder), '0'], check=True)
    _compress(**hdf5plugin.Bitshuffle())(folder)
    subprocess.run([sys.executable, '-c', code, str(folder), '1'], check=True)


WRITER = """
import sys, h5py, numpy as np
file = h5py.File(sys.argv[1], 'w', libver='latest')
data = file.create_dataset('patterns', (12, 16, 16), 'u4', maxshape=(None, 16, 16), chunks=(1, 16, 16))
file['indexes'] = np.arange(12)
data[:] = 5
file.flush()
if sys.argv[2] == 'swmr':
    file.swmr_mode = True
print('written', flush=True)
sys.stdin.read()
"""


@contextmanager
def _writer(folder: Path, mode: str) -> Iterator[None]:
    """Another process that holds diffraction.h5 open for writing."""
    command = [sys.executable, '-c', WRITER, str(folder / 'diffraction.h5'), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'written\n'
        yield
        process.kill()


@pytest.mark.skipif(sys.platform != 'linux', reason='locks of files differ elsewhere')
@pytest.mark.skipif('HDF5_USE_FILE_LOCKING' in os.environ, reason='locks are switched off')
def test_a_file_that_is_being_written_is_in_use(folder: Path) -> None:
    """D38: not damaged."""
    with _writer(folder, 'plain'), pytest.raises(ScanError, match='in use') as caught:
        read_scan(folder)
    assert 'damaged' not in str(caught.value)
    with pytest.raises(ScanError, match='h5clear'):  # the writer was killed
        read_scan(folder)


@pytest.mark.usefixtures('large')
@pytest.mark.skipif(sys.platform != 'linux', reason='locks of files differ elsewhere')
def test_a_file_with_a_swmr_writer_is_read(folder: Path) -> None:
    """D38: frames that are there can be reconstructed while more are measured."""
    with _writer(folder, 'swmr'):
        np.testing.assert_array_equal(_read(folder), np.full((4, SIDE, SIDE), 5))


def test_a_truncated_file_is_still_called_damaged(folder: Path) -> None:
    path = folder / 'diffraction.h5'
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ScanError, match='damaged'):
        read_scan(folder)


@pytest.mark.parametrize('build', [_compress(compression='gzip'), _make_virtual], ids=['chunks', 'virtual'])
def test_packed_patterns_are_unpacked_once_and_leave_nothing_behind(
    folder: Path,
    build: Callable[[Path], None],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D39: a random order would decompress every chunk again and again."""
    scratch = tmp_path_factory.mktemp('scratch')
    monkeypatch.setattr(tempfile, 'tempdir', str(scratch))
    monkeypatch.setattr(lazy, 'LARGE', 1000)
    build(folder)
    file = read_scan(folder)
    patterns: Any = file.scan.diffraction
    assert isinstance(patterns, Scratch)
    np.testing.assert_array_equal(file.scan.diffraction, PATTERNS)
    assert not [*scratch.iterdir()] and 'patterns_packed' not in {notice.code for notice in file.notices}


@pytest.mark.parametrize('trouble', ['small', 'full'])
def test_without_room_packed_patterns_are_read_on_demand_and_that_is_said(
    folder: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D39: a disk that is too small is not filled; one that others fill meanwhile is left as it was."""
    monkeypatch.setattr(lazy, 'LARGE', 1000)
    if trouble == 'small':
        usage = type(shutil.disk_usage(folder))(10**9, 10**9, 2 * PATTERNS.nbytes - 1)
        monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    else:
        monkeypatch.setattr(tempfile, 'TemporaryFile', lambda **_: open('/dev/full', 'rb+', buffering=0))  # noqa: SIM115
    _compress(compression='gzip')(folder)
    file = read_scan(folder)
    patterns: Any = file.scan.diffraction
    assert isinstance(patterns, lazy.LazyPatterns)
    np.testing.assert_array_equal(patterns, PATTERNS)
    (notice,) = (notice for notice in file.notices if notice.code == 'patterns_packed')
    assert 'execution.scratch_dir' in notice.text and 'decompressed at each use' in notice.text


@pytest.mark.usefixtures('large')
def test_a_damaged_chunk_is_named(folder: Path) -> None:
    """D3: wherever in the file it is."""
    _compress(compression='gzip')(folder)
    with h5py.File(folder / 'diffraction.h5') as file:
        chunk = file['patterns'].id.get_chunk_info(1)
    with (folder / 'diffraction.h5').open('rb+') as stream:
        stream.seek(chunk.byte_offset)
        stream.write(bytes(chunk.size))
    with pytest.raises(ScanError, match='damaged'):
        read_scan(folder)
