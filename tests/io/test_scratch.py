"""Patterns that are larger than memory: read on demand, unpacked to a scratch file, with a look at its space before."""

from __future__ import annotations

import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from scans import small_scan

from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.io import lazy, members, ptyd, read_scan, scratch, tiff, write_cxi, write_npz
from ptychopinn_reconstructor.io.lazy import LazyPatterns
from ptychopinn_reconstructor.io.scratch import FilePatterns, Scratch, empty_patterns
from ptychopinn_reconstructor.patterns import PatternsOnDemand
from ptychopinn_reconstructor.scan import Scan

SCAN = small_scan(positions=24)
PATTERNS = np.asarray(SCAN.diffraction)
MODULES: tuple[ModuleType, ...] = (lazy, members, ptyd, scratch, tiff)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns are large from 1000 bytes on."""
    for module in MODULES:
        monkeypatch.setattr(module, 'LARGE', 1000)


def write_stored(folder: Path) -> Path:
    write_npz(folder / 'scan.npz', SCAN)
    return folder / 'scan.npz'


def write_deflated(folder: Path) -> Path:
    write_npz(folder / 'scan.npz', SCAN, compressed=True)
    return folder / 'scan.npz'


def write_plain_cxi(folder: Path) -> Path:
    write_cxi(folder / 'scan.cxi', SCAN)
    return folder / 'scan.cxi'


def write_raster(folder: Path, **storage: Any) -> Path:
    """A CXI file of 4 x 6 patterns."""
    path = write_plain_cxi(folder)
    with h5py.File(path, 'a') as file:
        detector = file['entry_1/instrument_1/detector_1']
        del detector['data']
        detector.create_dataset('data', data=PATTERNS.reshape(4, 6, 32, 32), **storage)
    return path


def write_stack(folder: Path, *, single: bool = True) -> Path:
    """TIFF images, compressed, with their table."""
    lines = [f'{x!r},{y!r}' for y, x in SCAN.positions.tolist()]
    (folder / 'scan.csv').write_text('\n'.join(['x_px,y_px', *lines]), encoding='utf-8')
    if single:
        tifffile.imwrite(folder / 'scan.tif', PATTERNS, photometric='minisblack', compression='zlib')
        return folder / 'scan.tif'
    for number, image in enumerate(PATTERNS):
        tifffile.imwrite(folder / f'image_{number}.tif', image)
    return folder


def write_chunks(folder: Path) -> Path:
    """A file of PtyPy with two chunks; object pixels are 1e-8 m."""
    pixel = 1e-8
    with h5py.File(folder / 'scan.ptyd', 'w') as file:
        for key, value in {'energy': 8.0, 'distance': 1.0, 'psize': 1.2398419843320026e-6 / 8000 / 32 / pixel}.items():
            file[f'meta/{key}'] = value
        for number, part in enumerate((slice(10), slice(10, None))):
            file[f'chunks/{number}/data'], file[f'chunks/{number}/positions'] = (
                PATTERNS[part],
                SCAN.positions[part] * pixel,
            )
    return folder / 'scan.ptyd'


FORMATS: dict[str, tuple[Callable[[Path], Path], type[PatternsOnDemand]]] = {
    'stored NPZ': (write_stored, FilePatterns),
    'deflated NPZ': (write_deflated, Scratch),
    'CXI': (write_plain_cxi, FilePatterns),
    'raster': (write_raster, FilePatterns),
    'raster in chunks': (lambda folder: write_raster(folder, chunks=(1, 1, 32, 32)), LazyPatterns),
    'raster in packed chunks': (
        lambda folder: write_raster(folder, chunks=(2, 3, 32, 32), compression='gzip'),
        Scratch,
    ),
    'compressed TIFF': (write_stack, Scratch),
    'TIFF images': (lambda folder: write_stack(folder, single=False), Scratch),
    'PtyPy': (write_chunks, Scratch),
}


@pytest.mark.usefixtures('large')
@pytest.mark.parametrize('name', FORMATS)
def test_large_patterns_of_every_format_are_never_whole_in_memory(name: str, tmp_path: Path) -> None:
    """Nor left behind: a scratch file has no name."""
    write, kind = FORMATS[name]
    (tmp_path / 'scratch').mkdir()
    (tmp_path / 'scan').mkdir()
    read = read_scan(write(tmp_path / 'scan'), domain='counts', as_is=True, scratch=tmp_path / 'scratch')
    patterns: Any = read.scan.diffraction
    assert isinstance(patterns, kind) and patterns.nbytes == PATTERNS.nbytes
    np.testing.assert_array_equal(patterns, PATTERNS)
    for index in (slice(3, 9), np.array([20, 5, 5, 6, 7, 0]), np.array([-1]), slice(None, None, 7)):
        np.testing.assert_array_equal(patterns[index], PATTERNS[index])
    np.testing.assert_array_equal(read.scan.pattern_counts, PATTERNS.sum(axis=(1, 2)))
    assert not [*(tmp_path / 'scratch').iterdir()]


@pytest.mark.usefixtures('large')
def test_without_room_on_disk_a_compressed_scan_is_unpacked_in_memory_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_deflated(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: type('Usage', (), {'free': PATTERNS.nbytes - 1}))
    assert isinstance(read_scan(path).scan.diffraction, np.ndarray)
    monkeypatch.setattr('ptychopinn_reconstructor.io.memory.measure_available_memory', lambda: PATTERNS.nbytes / 2)
    with pytest.raises(ScanError, match=r"'diff3d' .* needs .* of memory .*name a folder with room .*scratch_dir"):
        read_scan(path)


@pytest.mark.usefixtures('large')
def test_a_damaged_compressed_scan_is_told(tmp_path: Path) -> None:
    path = write_deflated(tmp_path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo('diff3d.npy')
    content = bytearray(path.read_bytes())
    content[info.header_offset + info.compress_size // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ScanError, match='truncated or damaged at diff3d'):
        read_scan(path)


def test_images_of_several_types_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(tmp_path, single=False)
    tifffile.imwrite(tmp_path / 'image_7.tif', PATTERNS[7].astype(np.float32))
    monkeypatch.setattr(tiff, 'LARGE', 1000)
    with pytest.raises(ScanError, match=r'differ \(uint16 \(32, 32\), float32'):
        read_scan(tmp_path)


def test_patterns_of_a_file_travel_to_other_processes_and_a_short_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / 'patterns'
    path.write_bytes(b'head' + PATTERNS.tobytes())
    patterns = FilePatterns(path, PATTERNS.dtype, PATTERNS.shape, 4, np.arange(23, -1, -1))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(patterns))[:], PATTERNS[::-1])
    with pytest.raises(ScanError, match='damaged, shorter than its patterns'):
        FilePatterns(path, PATTERNS.dtype, PATTERNS.shape, 5)
    with path.open('rb+') as file:
        file.truncate(1000)
    with pytest.raises(ScanError, match='damaged, shorter than its patterns'):
        patterns[0]
    with pytest.raises(IndexError):
        patterns[24]


@pytest.mark.usefixtures('large')
@pytest.mark.parametrize(('photons', 'dtype'), [(1e4, np.uint16), (3e7, np.uint32)])
def test_simulated_patterns_on_disk_are_those_in_memory(photons: float, dtype: type, tmp_path: Path) -> None:
    """Of 16 bits until a count needs 32."""
    expected = small_scan(photons=photons, positions=300)
    found = small_scan(photons=photons, positions=300, empty=partial(empty_patterns, folder=tmp_path))
    patterns: Any = found.diffraction
    assert isinstance(patterns, Scratch) and patterns.dtype == expected.diffraction.dtype == dtype
    np.testing.assert_array_equal(patterns, expected.diffraction)
    write_npz(tmp_path / 'scan.npz', found)
    assert [path.name for path in tmp_path.iterdir()] == ['scan.npz']


@pytest.mark.usefixtures('large')
def test_a_simulation_without_room_asks_for_another_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: type('Usage', (), {'free': 2 * PATTERNS.nbytes - 1}))
    with pytest.raises(OutputError, match=r'Simulated patterns need .* choose another output folder\.$'):
        small_scan(positions=24, empty=partial(empty_patterns, folder=tmp_path))


def test_a_scan_of_patterns_on_demand_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / 'patterns'
    path.write_bytes(PATTERNS.tobytes())
    patterns: Any = FilePatterns(path, PATTERNS.dtype, PATTERNS.shape)
    found = Scan(patterns, SCAN.positions, SCAN.probe)
    np.testing.assert_array_equal(found.pattern_counts, SCAN.pattern_counts)


@pytest.mark.skipif(sys.platform != 'linux', reason='a device of Linux')
def test_a_disk_that_is_full_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, 'TemporaryFile', lambda **_: open('/dev/full', 'rb+', buffering=0))  # noqa: SIM115
    file = Scratch(np.uint16, (32, 32), tmp_path, 'The patterns')
    with pytest.raises(OutputError, match=r'The patterns cannot be kept in .* \(No space left'):
        file.append(PATTERNS)
