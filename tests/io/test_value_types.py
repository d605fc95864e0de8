"""Patterns of every type that NumPy stores numbers in, stored and compressed, compared with NumPy's own reading."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_inputs import good_arrays
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_scan, write_npz

CODES = ('i2', 'i4', 'i8', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
TYPES = [order + code for code, order in itertools.product(CODES, '<>')]
TYPES += ['i1', 'u1', *([np.dtype(np.longdouble).str] if np.dtype(np.longdouble).itemsize > 8 else [])]


def _patterns(kind: str, order: Any = 'C') -> NDArray[Any]:
    return np.asarray(good_arrays()['diff3d'].astype(kind), order=order)


@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('compressed', [False, True], ids=['stored', 'compressed'])
@pytest.mark.parametrize('kind', TYPES)
def test_every_type_is_read_from_npz_as_numpy_reads_it(tmp_path: Path, kind: str, compressed: bool, order: str) -> None:
    """D14: value type, byte order and memory layout change no count and never the file."""
    arrays: dict[str, Any] = {**good_arrays(), 'diff3d': _patterns(kind, order)}
    path = tmp_path / 'scan.npz'
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    content = path.read_bytes()
    scan = read_scan(path).scan
    with np.load(path) as expected:
        np.testing.assert_array_equal(scan.diffraction, expected['diff3d'])
        np.testing.assert_array_equal(scan.counts(np.array([4, 1])), expected['diff3d'][[4, 1]].astype(np.float32))
    assert scan.domain == 'counts' and scan.counts(slice(0, 2)).dtype == np.dtype(np.float32)
    assert scan.diffraction.dtype == np.dtype(kind) and path.read_bytes() == content


@pytest.mark.parametrize('kind', TYPES)
def test_every_type_survives_our_writer(tmp_path: Path, kind: str) -> None:
    """D17."""
    np.savez(tmp_path / 'a.npz', **{**good_arrays(), 'diff3d': _patterns(kind)})
    write_npz(tmp_path / 'b.npz', read_scan(tmp_path / 'a.npz').scan)
    again = read_scan(tmp_path / 'b.npz').scan.diffraction
    np.testing.assert_array_equal(again, _patterns(kind))


@pytest.mark.parametrize('kind', ['>f8', '>i4', '>u2', '<f2'])
def test_positions_probe_and_object_of_other_types(tmp_path: Path, kind: str) -> None:
    """D11, D12: big-endian, half precision, transposed in memory."""
    arrays = good_arrays()
    probe = np.asarray(np.arange(256.0).reshape(16, 16).astype('>c16'), order='F')
    changed = {key: np.round(arrays[key]).astype(kind) for key in ('xcoords', 'ycoords')}
    np.savez(
        tmp_path / 'scan.npz', **{**arrays, **changed, 'probeGuess': probe, 'objectGuess': np.ones((60, 60), kind)}
    )
    scan = read_scan(tmp_path / 'scan.npz').scan
    np.testing.assert_array_equal(scan.positions[:, 1], changed['xcoords'].astype(float))
    assert scan.probe is not None and scan.object is not None
    np.testing.assert_array_equal(scan.probe[0], probe.astype(np.complex64))
    np.testing.assert_array_equal(scan.object, np.ones((60, 60), np.complex64))


@pytest.mark.parametrize('compressed', [False, True], ids=['stored', 'compressed'])
def test_deciding_the_domain_leaves_values_that_are_not_finite_as_they_are(tmp_path: Path, compressed: bool) -> None:
    """D20: NaN is not turned into a measured zero."""
    patterns = _patterns('f8')
    patterns[3, 2, 1] = np.nan
    (np.savez_compressed if compressed else np.savez)(tmp_path / 'scan.npz', **{**good_arrays(), 'diff3d': patterns})
    with pytest.raises(ScanError, match='NaN'):
        read_scan(tmp_path / 'scan.npz', as_is=True)


@pytest.mark.parametrize('kind', ['c8', 'S3', 'U3', 'M8[s]'])
def test_what_holds_no_real_numbers_is_refused_by_its_type(tmp_path: Path, kind: str) -> None:
    """D18."""
    np.savez(tmp_path / 'scan.npz', **{**good_arrays(), 'diff3d': np.ones((10, 16, 16), 'i8').astype(kind)})
    with pytest.raises(ScanError, match='type'):
        read_scan(tmp_path / 'scan.npz')
