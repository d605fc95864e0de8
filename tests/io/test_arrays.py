"""Checks of arrays that formats share, and what the readers say of files that hold something else."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from bad_inputs import COUNT, SIDE, good_arrays, write_good, write_good_folder
from scans import noise_product, small_scan

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import (
    arrays,
    read_object,
    read_probe,
    read_scan,
    read_scans,
    write_npz,
    write_product,
)
from ptychopinn_reconstructor.io.far_field import _measure_step, compute_object_pixel
from ptychopinn_reconstructor.io.files import detect_file_kind
from ptychopinn_reconstructor.io.hdf5 import holds_object_alone, open_hdf5
from ptychopinn_reconstructor.io.matching import match_by_index
from ptychopinn_reconstructor.io.plain_json import to_plain_json, write_json

LAYER = np.arange(12.0).reshape(3, 4)


def test_an_object_is_one_layer_of_single_precision() -> None:
    for values in (LAYER, LAYER[None], LAYER.astype(int), np.asfortranarray(LAYER)):
        layer = arrays.extract_object_layer(values, 'it')
        assert layer.dtype == np.complex64 and layer.flags.c_contiguous and np.array_equal(layer, LAYER)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        (np.ones((2, 3, 4)), r'It has shape \(2, 3, 4\) and type float64; expected one layer'),
        (np.ones(4), r'shape \(4,\)'),
        (np.ones((0, 4)), r'shape \(0, 4\)'),
        (np.full((3, 4), 'x'), 'type <U1'),
        (np.where(LAYER == 5, np.nan, LAYER), 'holds NaN or infinity'),
    ],
)
def test_what_is_no_object_is_refused(values: Any, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        arrays.extract_object_layer(values, 'It')


def test_layers_are_multiplied() -> None:
    values = np.stack([LAYER, LAYER + 1j])
    np.testing.assert_allclose(arrays.project_layers(values, 'it'), LAYER * (LAYER + 1j), rtol=1e-6)
    assert np.array_equal(arrays.project_layers(LAYER[None], 'it'), LAYER)
    for several in (np.ones((3, 3, 4)), np.ones((4, 3, 4)), np.ones((0, 3, 4))):  # rather an axis in the wrong place
        with pytest.raises(ScanError, match='expected one layer'):
            arrays.project_layers(several, 'it')


def test_what_layers_lose_is_told_with_numbers() -> None:
    """Light of .1 nm spreads over 10 nm within 1 um: sqrt(1e-10 * 1e-6)."""
    assert arrays.describe_layers(1, 'It') == ''
    text = arrays.describe_layers(2, 'It', 1e-6, 1e-10, 4e-9)
    assert 'has 2 layers' in text and '1 um apart' in text and 'finer than 10 nm (2.5 pixels) is lost' in text
    for unknown in ((0.0, 1e-10, 4e-9), (1e-6, 0.0, 4e-9), (1e-6, 1e-10, 0.0)):
        assert arrays.describe_layers(2, 'It', *unknown).endswith('sample: what light spreads between them is lost.')


def test_one_relaxation_mode_is_the_probe() -> None:
    probe = np.ones((1, 2, 4, 4))
    assert arrays.drop_relaxation_axis(probe, 'It').shape == (2, 4, 4)
    assert arrays.drop_relaxation_axis(probe[0], 'It') is not None
    with pytest.raises(ScanError, match='It has 3 orthogonal-probe-relaxation modes'):
        arrays.drop_relaxation_axis(np.ones((3, 1, 4, 4)), 'It')


def test_an_npy_file_is_mapped_or_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.npy'
    np.save(path, LAYER)
    mapped, read = arrays.map_npy(path), arrays.read_npy(path)
    assert isinstance(mapped.base, np.memmap) and not mapped.flags.writeable
    assert read.base is None and read.flags.writeable and np.array_equal(read, LAYER)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ScanError, match='damaged or pickled'):
        arrays.read_npy(path)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ScanError, match='damaged or pickled'):
        arrays.map_npy(path)


def test_all_scans_of_a_file_by_their_numbers(tmp_path: Path) -> None:
    index = np.array([3] * 5 + [8] * 5)
    np.savez(tmp_path / 'two.npz', **good_arrays() | {'scan_index': index})
    write_good(tmp_path, 'one.npz')
    found = read_scans(tmp_path / 'two.npz', domain='counts')
    assert [*found] == [3, 8] and [len(read.scan) for read in found.values()] == [5, 5]
    assert np.array_equal(found[8].scan.diffraction, good_arrays()['diff3d'][5:])
    (read,) = (one := read_scans(tmp_path / 'one.npz')).values()
    assert [*one] == [None] and len(read.scan) == COUNT


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'product': 'product.h5'}, 'takes no product; leave product.h5 out'),
        ({'positions': 'table.csv'}, 'holds positions itself'),
        ({'pixel_size': 1e-8}, 'holds positions itself'),
    ],
)
def test_what_a_format_does_not_take_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ScanError, match=words):
        read_scan(write_good(tmp_path), **settings)


def test_a_probe_of_another_file_takes_the_place_of_the_scan_s(tmp_path: Path) -> None:
    other = np.full((2, SIDE, SIDE), 2 + 1j, np.complex64)
    np.save(tmp_path / 'p.npy', other)
    read = read_scan(write_good(tmp_path), probe=tmp_path / 'p.npy')
    assert read.scan.probe is not None and read.scan.probe.shape == other.shape
    np.testing.assert_allclose(np.angle(read.scan.probe), np.angle(other), rtol=1e-5)
    assert any(notice.code == 'probe_replaced' and 'p.npy' in notice.text for notice in read.notices)


def test_files_that_hold_no_probe_or_no_object(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.ones((16, 16), np.complex64))
    tifffile.imwrite(tmp_path / 'a.tif', np.ones((16, 16), np.float32))
    write_product(tmp_path / 'product.h5', noise_product())
    with pytest.raises(ScanError, match='TIFF file, which holds no complex probe'):
        read_probe(tmp_path / 'a.tif')
    with pytest.raises(ScanError, match='TIFF file, which holds no complex object'):
        read_object(tmp_path / 'a.tif')
    with pytest.raises(ScanError, match="single array; leave out the key 'probe'"):
        read_probe(f'{tmp_path}/a.npy:probe')
    with pytest.raises(ScanError, match="no other name; leave out the key 'mine'"):
        read_object(tmp_path / 'product.h5', 'mine')
    assert np.array_equal(read_object(tmp_path).object, read_object(tmp_path / 'product.h5', 'object').object)


def test_a_key_follows_the_last_colon_unless_the_file_is_so_named(tmp_path: Path) -> None:
    arrays_of: dict[str, Any] = {'mine': np.full((16, 16), 2, np.complex64), 'probe': np.ones((16, 16), np.complex64)}
    np.savez(tmp_path / 'a.npz', **arrays_of)
    np.savez(tmp_path / 'a.npz:mine.npz', **arrays_of)
    assert read_probe(f'{tmp_path}/a.npz:mine')[0, 0, 0] == 2
    os.rename(tmp_path / 'a.npz:mine.npz', tmp_path / 'a.npz:mine')
    assert read_probe(f'{tmp_path}/a.npz:mine')[0, 0, 0] == 1
    with pytest.raises(ScanError, match=r'There is no file .*b\.npz:mine'):
        read_probe(f'{tmp_path}/b.npz:mine')


def test_a_probe_of_a_product_by_its_name(tmp_path: Path) -> None:
    write_product(tmp_path / 'product.h5', noise_product())
    with h5py.File(tmp_path / 'product.h5', 'a') as file:
        file['mine'] = 3 * file['probe'][()]
    own, mine = (read_probe(f'{tmp_path}/product.h5{key}') for key in (':probe', ':mine'))
    np.testing.assert_allclose(mine, 3 * own, rtol=1e-6)
    with pytest.raises(ScanError, match="no dataset 'absent'"):
        read_probe(f'{tmp_path}/product.h5:absent')


def test_what_is_no_hdf5_file_is_told(tmp_path: Path) -> None:
    path = write_good(tmp_path)
    with pytest.raises(ScanError, match='is not an HDF5 file; pass a product'), open_hdf5(path, 'product'):
        pass
    assert not holds_object_alone(path) and not holds_object_alone(tmp_path)
    write_good_folder(tmp_path)
    assert holds_object_alone(tmp_path / 'product.h5') and not holds_object_alone(tmp_path / 'diffraction.h5')


def test_a_loop_of_links_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    with pytest.raises(ScanError, match=r'Cannot read .*loop: .*symbolic links'):
        detect_file_kind(tmp_path / 'loop')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'object_pixel_size_m': np.ones(3)}, r'object_pixel_size_m .* shape \(3,\); expected \(2,\)'),
        ({'object_pixel_size_m': np.array(['a', 'b'])}, 'object_pixel_size_m'),
        ({'origin_row': np.inf, 'origin_col': 0.0}, 'origin_row and origin_col .* one finite number'),
        ({'origin_row': np.ones(2), 'origin_col': 0.0}, 'origin_row and origin_col'),
        ({'xcoords': np.ones((5, 2))}, r'shapes \(5, 2\) and \(10,\)'),
        ({'xcoords': np.full(COUNT, 'a')}, 'expected real numbers'),
        ({'diff3d': np.ones((COUNT, COUNT, COUNT))}, 'any axis may count the 10 patterns'),
        ({'diff3d': np.ones((3, 4, 5))}, 'one axis must match'),
        ({'diff3d': np.ones((COUNT, SIDE))}, 'expected .n, N, N.'),
    ],
)
def test_an_npz_file_with_a_wrong_value(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / 'a.npz', **good_arrays() | changes)
    with pytest.raises(ScanError, match=words):
        read_scan(tmp_path / 'a.npz')


def test_an_npz_file_with_layers_says_so_and_one_off_its_object_has_none(tmp_path: Path) -> None:
    layers = np.stack([np.full((60, 60), 2, np.complex64)] * 2)
    np.savez(tmp_path / 'a.npz', **good_arrays() | {'objectGuess': layers})
    read = read_scan(tmp_path / 'a.npz')
    assert any(notice.code == 'object_layers' for notice in read.notices)
    assert read.scan.object is not None and (read.scan.object == 4).all()
    single = read_scan(write_good(tmp_path)).notices
    assert not [notice for notice in single if notice.code == 'object_layers']
    for index, value in ((0, -0.5), (1, 59.5)):
        far = good_arrays()
        far['xcoords'][index] = value
        np.savez(tmp_path / 'b.npz', **far, origin_row=3.0, origin_col=0.0)
        read = read_scan(tmp_path / 'b.npz')
        assert read.scan.object is None and read.scan.object_origin == (0.0, 0.0)
        assert any(notice.code == 'object_ignored' for notice in read.notices)


def test_axes_that_the_file_names_are_not_guessed(tmp_path: Path) -> None:
    """Sixteen patterns of 16 x 16 pixels, in a contract that other programs read by these names."""
    values = small_scan(n=16, positions=16, step=2.0)
    write_npz(tmp_path / 'a.npz', values)
    with np.load(tmp_path / 'a.npz') as stored:
        contents = dict(stored)
    assert contents['diff3d_axes'] == 'pattern,row,column' and contents['measurement_domain'] == 'counts'
    wanted = {
        'xcoords',
        'ycoords',
        'xcoords_start',
        'ycoords_start',
        'diff3d',
        'probeGuess',
        'objectGuess',
        'scan_index',
    }
    assert wanted <= contents.keys() and np.array_equal(
        read_scan(tmp_path / 'a.npz').scan.diffraction, contents['diff3d']
    )
    origin = values.object_origin
    assert np.array_equal(contents['xcoords_start'], contents['xcoords'])
    np.testing.assert_allclose(contents['xcoords'], values.positions[:, 1] + origin[1])
    np.testing.assert_allclose(contents['ycoords'], values.positions[:, 0] + origin[0])
    del contents['diff3d_axes']
    np.savez(tmp_path / 'b.npz', **contents)
    with pytest.raises(ScanError, match="add the key diff3d_axes = 'pattern,row,column'"):
        read_scan(tmp_path / 'b.npz')


def test_patterns_last_are_moved_to_the_front(tmp_path: Path) -> None:
    values = good_arrays()
    for axis in (1, 2):
        np.savez(tmp_path / 'a.npz', **values | {'diff3d': np.moveaxis(values['diff3d'], 0, axis)})
        read = read_scan(tmp_path / 'a.npz')
        assert np.array_equal(read.scan.diffraction, values['diff3d'])
        (notice,) = (notice for notice in read.notices if notice.code == 'axis_moved')
        assert f'axis {axis} of diff3d' in notice.text


@pytest.mark.parametrize('compressed', [False, True])
def test_an_npz_file_larger_than_its_archive_is_refused(tmp_path: Path, compressed: bool) -> None:
    """A header that promises more than the file can hold, of an array that would be made up."""
    path = tmp_path / 'a.npz'
    write_npz(path, small_scan(positions=16), compressed=compressed)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo('probeGuess.npy')
    content = bytearray(path.read_bytes())
    place = content.rindex(b'probeGuess.npy') - 46 + 24  # the size in the directory
    assert int.from_bytes(content[place : place + 4], 'little') in (info.file_size, 2**32 - 1)
    content[place : place + 4] = (2**31).to_bytes(4, 'little')
    path.write_bytes(content)
    with pytest.raises(ScanError, match=r'damaged|truncated|declares'):
        read_scan(path)


def test_indexes_pair_patterns_to_positions() -> None:
    places = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 8.0], [9.0, 9.0]])
    found = match_by_index(np.array([5, 4, -1, 3, 7, 1]), np.array([3, 5, 5, 6]), places)
    assert found.rows.tolist() == [0, 1, 3]
    np.testing.assert_allclose(found.positions, [[3.0, 6.0], [1.5, 3.0], [0.0, 0.0]])
    told = {notice.code: notice.text for notice in found.notices}
    assert told['positions_matched'].startswith('Paired 3 of 6') and 'Left out 3 patterns' in told['patterns_left_out']
    assert (
        'positions of 1 patterns' in told['positions_interpolated'] and '1 positions that' in told['positions_averaged']
    )
    assert told['positions_left_out'].startswith('Left out 1 positions')
    whole = match_by_index(np.array([0, 1]), np.array([0, 1]), places[:2])
    assert [notice.code for notice in whole.notices] == ['positions_matched']


@pytest.mark.parametrize(
    ('patterns', 'positions', 'places', 'words'),
    [
        ([0], [], np.zeros((0, 2)), 'holds no probe positions'),
        ([5, 9], [1, 2], np.zeros((2, 2)), 'indexes span 0 to 9, position indexes 1 to 2'),
        ([0], [0, 1], np.array([[0, np.nan], [0, 0]]), '^1 probe positions are NaN'),
    ],
)
def test_indexes_that_pair_nothing_are_refused(patterns: Any, positions: Any, places: Any, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        match_by_index(np.array(patterns, int), np.array(positions, int), places)


def test_the_step_of_a_scan_is_the_median_to_the_nearest() -> None:
    line = np.stack([np.zeros(7), np.array([0, 1, 2, 3, 5, 8, 30.0])], axis=1)
    assert _measure_step(line) == 1.0
    assert _measure_step(np.concatenate([line, line, [[np.nan, 0.0]]])) == 1.0, 'neither again nor nowhere'
    assert _measure_step(line[:1]) == 0.0
    y, x = np.mgrid[:30, :30] * 2.0
    assert _measure_step(np.stack([y.ravel(), x.ravel()], axis=1)) == 2.0


def test_an_object_pixel_by_hand() -> None:
    """1 nm light, 1 m, 100 pixels of 10 and 20 um: 1e-9 / (100 * 1e-5) = 1 um."""
    size = compute_object_pixel(100, 1.0, 1.2398419843320026e-6 / 1e-9, (1e-5, 2e-5))
    assert size == pytest.approx((1e-6, 5e-7), rel=1e-9)


def test_plain_json_holds_no_number_that_is_not_finite(tmp_path: Path) -> None:
    values = {1: (np.float32(0.5), np.inf), 'a': np.array([[1.0, np.nan]]), 'b': [np.int64(3), 'x', None, True]}
    plain = {'1': [0.5, None], 'a': [[1.0, None]], 'b': [3, 'x', None, True]}
    assert to_plain_json(values) == plain and type(to_plain_json(values)['b'][0]) is int
    write_json(tmp_path / 'a.json', values)  # type: ignore[arg-type]
    text = (tmp_path / 'a.json').read_text()
    assert json.loads(text) == plain and text.endswith('}\n') and '\n  "a": [' in text
