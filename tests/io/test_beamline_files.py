"""CXI, NXcxi_ptycho, PtyPy's .ptyd and TIFF with a table (specs/data_contracts.md, section 7)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scans import noise_product, small_scan

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_object, read_probe, read_scan, write_cxi, write_product
from ptychopinn_reconstructor.io.cxi_entry import _correct_unit
from ptychopinn_reconstructor.io.cxi_writing import write_cxi_object
from ptychopinn_reconstructor.io.tiff import read_table, write_tiff_object
from ptychopinn_reconstructor.scan import Scan

COUNT, SIDE = 12, 16
ENERGY, DISTANCE, PIXEL = 8000.0, 2.0, 75e-6
OBJECT_PIXEL = 1.2398419843320026e-6 / ENERGY * DISTANCE / (SIDE * PIXEL)
JOULES = 1.602176634e-19
RANDOM = np.random.default_rng(0)
PATTERNS = RANDOM.poisson(30, (COUNT, SIDE, SIDE)).astype(np.uint16)
POSITIONS = RANDOM.uniform(-15, 15, (COUNT, 2))  # [row, column], object pixels
Change = Callable[[Any], None]


def _write_cxi(path: Path, change: Change = lambda file: None) -> Path:
    """A CXI file as a beamline writes it: SI units without attributes, default axes."""
    rows, columns = (POSITIONS * OBJECT_PIXEL).T
    with h5py.File(path, 'w') as file:
        file['cxi_version'] = 160
        entry = file.create_group('entry_1')
        entry['instrument_1/source_1/energy'] = ENERGY * JOULES
        detector = entry.create_group('instrument_1/detector_1')
        detector['data'], detector['distance'] = PATTERNS, DISTANCE
        detector['x_pixel_size'] = detector['y_pixel_size'] = PIXEL
        entry['sample_1/geometry_1/translation'] = np.stack([columns, rows, np.full(COUNT, 1e-3)], axis=1)
        entry['data_1/data'] = h5py.SoftLink('/entry_1/instrument_1/detector_1/data')
        change(file)
    return path


def _replace(file: Any, key: str, value: Any, **attributes: Any) -> None:
    if key in file:
        del file[key]
    if value is not None:
        file[key] = value
        file[key].attrs.update(attributes)


def _set(key: str, value: Any, **attributes: Any) -> Change:
    return lambda file: _replace(file, f'entry_1/{key}', value, **attributes)


def _assert_is_the_scan(scan: Scan, positions: NDArray[Any] = POSITIONS) -> None:
    np.testing.assert_array_equal(scan.diffraction, PATTERNS)
    np.testing.assert_allclose(scan.positions, positions, atol=1e-6)
    assert scan.pixel_size == pytest.approx((OBJECT_PIXEL, OBJECT_PIXEL))
    assert scan.domain == 'counts'


def test_a_cxi_file_is_a_scan_in_object_pixels(tmp_path: Path) -> None:
    """D70: wavelength * distance / (N * detector pixel); z is left out."""
    read = read_scan(_write_cxi(tmp_path / 'scan.cxi'))
    _assert_is_the_scan(read.scan)
    assert read.scan.metadata['photon_energy_eV'] == pytest.approx(ENERGY)
    assert read.scan.metadata['detector_object_distance_m'] == DISTANCE
    (told,) = (notice.text for notice in read.notices if notice.code == 'geometry')
    side = f'{OBJECT_PIXEL * 1e9:.4g}'
    assert told == f'Object pixels are {side} x {side} nm: 8000 eV, 2 m, detector pixels of 75 um.'


UNITS: dict[str, Change] = {
    'energy in eV': _set('instrument_1/source_1/energy', ENERGY),
    'energy in keV': _set('instrument_1/source_1/energy', ENERGY / 1e3),
    'energy with a unit': _set('instrument_1/source_1/energy', ENERGY / 1e3, units='keV'),
    'distance in mm': _set('instrument_1/detector_1/distance', DISTANCE * 1e3, units='mm'),
    'pixels in um': _set('instrument_1/detector_1/x_pixel_size', PIXEL * 1e6, units='um'),
    'numbers in arrays': _set('instrument_1/detector_1/distance', np.array([DISTANCE])),
}


@pytest.mark.parametrize('change', UNITS.values(), ids=UNITS)
def test_units_of_a_cxi_file(tmp_path: Path, change: Change) -> None:
    """D70: that of the attribute, else SI; an energy that cannot be in joules is in eV, or below 50 in keV."""
    _assert_is_the_scan(read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan)


def _use_wavelength(file: Any) -> None:
    del file['entry_1/instrument_1/source_1/energy']
    file['entry_1/instrument_1/source_1/wavelength'] = 1.2398419843320026e-6 / ENERGY


def _use_micrometers(file: Any) -> None:
    values = file['entry_1/sample_1/geometry_1/translation'][()] * 1e6
    _replace(file, 'entry_1/sample_1/geometry_1/translation', values, units='um')


def _use_raster(file: Any) -> None:
    _replace(file, 'entry_1/instrument_1/detector_1/data', PATTERNS.reshape(3, 4, SIDE, SIDE))


def _drop_pixel_sizes(file: Any) -> None:
    for axis in 'xy':
        del file[f'entry_1/instrument_1/detector_1/{axis}_pixel_size']
    file['entry_1/instrument_1/detector_1/basis_vectors'] = np.array([[0, -PIXEL, 0], [-PIXEL, 0, 0]])


def _become_nexus(file: Any) -> None:
    """NXcxi_ptycho: the energy of the source is that of the machine, motors instead of a translation."""
    entry = file['entry_1']
    entry['definition'] = 'NXcxi_ptycho'
    _replace(file, 'entry_1/instrument_1/source_1/energy', 3e9, units='eV')
    _replace(file, 'entry_1/instrument_1/beam_1/energy', ENERGY, units='eV')
    del entry['sample_1/geometry_1/translation']
    for axis, values in zip('yx', (POSITIONS * OBJECT_PIXEL * 1e3).T, strict=True):
        _replace(file, f'entry_1/sample_1/transformations/{axis}', values.reshape(3, 4), units='mm')


def _rename_entry(file: Any) -> None:
    _become_nexus(file)
    del file['cxi_version']
    file.move('entry_1', 'entry')
    del file['entry/data_1']


FORMS = {
    'wavelength': _use_wavelength, 'micrometers': _use_micrometers, 'raster': _use_raster,
    'basis vectors alone': _drop_pixel_sizes, 'NXcxi_ptycho': _become_nexus, 'entry of another name': _rename_entry,
}  # fmt: skip


@pytest.mark.parametrize('change', FORMS.values(), ids=FORMS)
def test_forms_of_a_cxi_file(tmp_path: Path, change: Change) -> None:
    """D70, D71."""
    _assert_is_the_scan(read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan)


@pytest.mark.parametrize(
    ('basis', 'positions'),
    [
        ([[0, -PIXEL, 0], [-PIXEL, 0, 0]], POSITIONS),
        ([[0, PIXEL, 0], [-PIXEL, 0, 0]], POSITIONS * [-1, 1]),
        ([[-PIXEL, 0, 0], [0, -PIXEL, 0]], POSITIONS[:, ::-1]),
    ],
    ids=['default', 'rows point up', 'transposed'],
)
def test_positions_follow_the_axes_of_the_detector(tmp_path: Path, basis: Any, positions: NDArray[Any]) -> None:
    """D70: the beam moves by the negative translation of the sample, rows and columns point as the detector's."""
    change = _set('instrument_1/detector_1/basis_vectors', np.array(basis))
    _assert_is_the_scan(read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan, positions)


@pytest.mark.parametrize('bit', [0, 1, 2, 3, 4, 7, 9])
def test_bits_of_the_mask_that_are_bad(tmp_path: Path, bit: int) -> None:
    """D72: also where each pattern has a mask of its own."""
    mask = np.zeros((COUNT, SIDE, SIDE), np.uint32)
    mask[2, 3, 4] = 1 << bit
    for values in (mask, mask.max(axis=0)):
        scan = read_scan(_write_cxi(tmp_path / 'scan.cxi', _set('instrument_1/detector_1/mask', values))).scan
        assert scan.bad_pixels is not None and scan.bad_pixels.sum() == 1 and scan.bad_pixels[3, 4]


@pytest.mark.parametrize('bit', [5, 8, 13, 16])
def test_bits_of_the_mask_that_are_not_bad(tmp_path: Path, bit: int) -> None:
    """D72: peaks, resolution limits, signal."""
    mask = np.full((SIDE, SIDE), 1 << bit, np.uint32)
    scan = read_scan(_write_cxi(tmp_path / 'scan.cxi', _set('instrument_1/detector_1/mask', mask))).scan
    assert scan.bad_pixels is not None and not scan.bad_pixels.any()


def test_the_illumination_is_the_probe(tmp_path: Path) -> None:
    """D70."""
    light = (RANDOM.normal(size=(SIDE, SIDE)) + 1j).astype(np.complex64)
    change = _set('instrument_1/source_1/illumination', light)
    scan = read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan
    assert scan.probe is not None
    np.testing.assert_array_equal(scan.probe[0], light)
    np.testing.assert_array_equal(read_probe(tmp_path / 'scan.cxi')[0], light)
    with pytest.raises(ScanError, match='without an illumination'):
        read_probe(_write_cxi(tmp_path / 'dark.cxi'))


def _shrink_detector(file: Any) -> None:
    for axis in 'xy':
        _replace(file, f'entry_1/instrument_1/detector_1/{axis}_pixel_size', 50e-9)
    _replace(file, 'entry_1/instrument_1/detector_1/distance', 7e-3)


REFUSED: dict[str, tuple[Change, str]] = {
    'no energy': (_set('instrument_1/source_1/energy', None), r'CXI file without the photon energy'),
    'no distance': (_set('instrument_1/detector_1/distance', None), r'CXI file without the detector distance'),
    'no pixel size': (_set('instrument_1/detector_1/x_pixel_size', None), r'without the size of detector pixels'),
    'no pixel height': (_set('instrument_1/detector_1/y_pixel_size', None), r'without the detector y_pixel_size'),
    'distance of zero': (_set('instrument_1/detector_1/distance', 0.0), r'distance.*is 0\.0; expected a positive'),
    'unknown unit': (_set('instrument_1/detector_1/distance', 2.0, units='furlong'), r"is in 'furlong'"),
    'no positions': (_set('sample_1/geometry_1/translation', None), r'CXI file without positions'),
    'fewer positions': (_set('sample_1/geometry_1/translation', np.zeros((5, 3))), r'shape \(5, 3\).*\(12, 3\)'),
    'mask of another shape': (_set('instrument_1/detector_1/mask', np.zeros((8, 8), int)), r'mask.*\(8, 8\)'),
    'no patterns': (_set('instrument_1/detector_1/data', None), r"links 'data' to .*detector_1/data"),
    'object pixels above those of the detector': (_shrink_detector, r'no far-field scan: its object pixels'),
    'near field by geometry': (_set('instrument_1/detector_1/distance', 0.01), r'no far-field scan.*um apart'),
}


@pytest.mark.parametrize(('change', 'words'), REFUSED.values(), ids=REFUSED)
def test_a_cxi_file_that_is_no_far_field_scan_says_so(tmp_path: Path, change: Change, words: str) -> None:
    """D73."""
    with pytest.raises(ScanError, match=words):
        read_scan(_write_cxi(tmp_path / 'scan.cxi', change))


def _spread(file: h5py.File) -> None:
    """Steps of pixels of the detector, as in the near field."""
    file['entry_1/sample_1/geometry_1/translation'][...] *= 1e3


NEAR: dict[str, Change] = {
    'declared': _set('near_field', True),
    'by name': _set('title', 'Near-field ptychography of a bone'),
    'not the far field': lambda file: file.attrs.update(far_field=False),
}


@pytest.mark.parametrize('change', NEAR.values(), ids=NEAR)
@pytest.mark.parametrize('source', [None, 0.5, -0.5])
def test_a_cxi_file_of_the_near_field_has_its_magnification(
    tmp_path: Path, change: Change, source: float | None
) -> None:
    """D73: the detector's pixels divided by it, and the Fresnel number at the effective distance."""

    def cone(file: h5py.File) -> None:
        change(file)
        _spread(file)
        if source is not None:
            file['entry_1/instrument_1/source_1/distance'] = source

    far = read_scan(_write_cxi(tmp_path / 'far.cxi', lambda _: None), as_is=True).scan
    read = read_scan(_write_cxi(tmp_path / 'scan.cxi', cone), as_is=True)
    with h5py.File(tmp_path / 'scan.cxi') as file:
        detector = file['entry_1/instrument_1/detector_1']
        pixel, distance = float(detector['x_pixel_size'][()]), float(detector['distance'][()])
    assert far.fresnel_number is None and far.pixel_size is not None and read.scan.pixel_size is not None
    magnification = 1 if source is None else 1 + distance / 0.5
    assert read.scan.pixel_size[1] == pytest.approx(pixel / magnification)
    wavelength = 1.2398419843320026e-6 / float(read.scan.metadata['photon_energy_eV'])
    expected = (pixel / magnification) ** 2 / (wavelength * distance / magnification)
    assert read.scan.fresnel_number is not None and read.scan.fresnel_number[1] == pytest.approx(expected)
    assert read.scan.positions * read.scan.pixel_size == pytest.approx(1e3 * far.positions * far.pixel_size)
    told = next(notice.text for notice in read.notices if notice.code == 'geometry')
    assert 'near field' in told and ('parallel beam' in told) == (source is None)


def test_a_fresnel_number_says_the_magnification(tmp_path: Path) -> None:
    """D73: what is given comes before what the file says."""

    def cone(file: h5py.File) -> None:
        _spread(file)
        file['entry_1/near_field'] = True
        file['entry_1/instrument_1/source_1/distance'] = 0.5

    own = read_scan(_write_cxi(tmp_path / 'scan.cxi', cone), as_is=True).scan
    assert own.fresnel_number is not None and own.pixel_size is not None
    plain = _write_cxi(tmp_path / 'plain.cxi', _spread)
    given = read_scan(plain, as_is=True, fresnel_number=own.fresnel_number[0]).scan
    assert given.fresnel_number == pytest.approx(own.fresnel_number)
    assert given.pixel_size == pytest.approx(own.pixel_size)


@pytest.mark.parametrize('domain', ['counts', 'amplitude'])
def test_what_is_written_as_cxi_is_read_again(tmp_path: Path, domain: Any) -> None:
    """D74: patterns as counts, positions, probe, mask, pixel size."""
    scan = small_scan(positions=9)
    bad = np.zeros((32, 32), bool)
    bad[3, 5] = True
    values = np.sqrt(scan.diffraction) if domain == 'amplitude' else scan.diffraction
    index = np.arange(9) // 5
    scan = Scan(values, scan.positions, scan.probe, domain, bad_pixels=bad, scan_index=index, pixel_size=(2e-8, 1e-8))
    write_cxi(tmp_path / 'scan.cxi', scan)
    again = read_scan(tmp_path / 'scan.cxi', as_is=True).scan
    np.testing.assert_allclose(again.counts(slice(0, 9)), scan.counts(slice(0, 9)), rtol=1e-6)
    np.testing.assert_array_equal(again.scan_index, index)
    np.testing.assert_allclose(again.positions, scan.positions, atol=1e-6)
    assert again.probe is not None and again.bad_pixels is not None and scan.probe is not None
    np.testing.assert_array_equal(again.probe, scan.probe)
    np.testing.assert_array_equal(again.bad_pixels, bad)
    assert again.pixel_size == pytest.approx((2e-8, 1e-8))


def test_all_that_is_lacking_is_named_at_once(tmp_path: Path) -> None:
    """D73."""
    with h5py.File(tmp_path / 'scan.cxi', 'w') as file:
        file['entry_1/instrument_1/detector_1/data'] = PATTERNS
    with pytest.raises(ScanError, match=r'energy \(.*\), the detector distance \(.*\), the size of detector pixels'):
        read_scan(tmp_path / 'scan.cxi')


def test_a_scan_known_in_pixels_only_stays_one(tmp_path: Path) -> None:
    """D74: the geometry that CXI needs is nominal."""
    scan = small_scan(positions=9)
    write_cxi(tmp_path / 'scan.cxi', scan)
    again = read_scan(tmp_path / 'scan.cxi').scan
    assert scan.pixel_size is None and again.pixel_size is None and 'photon_energy_eV' not in again.metadata
    np.testing.assert_allclose(again.positions, scan.positions, atol=1e-6)


def _write_ptyd(path: Path, change: Change = lambda file: None) -> Path:
    with h5py.File(path, 'w') as file:
        file['meta/energy'], file['meta/distance'], file['meta/psize'] = ENERGY / 1e3, DISTANCE, PIXEL
        for name, part in (('0', slice(0, 5)), ('10', slice(9, 12)), ('2', slice(5, 9))):
            weights = np.ones(PATTERNS[part].shape)
            weights[:, 1, 2] = 0
            file[f'chunks/{name}/data'], file[f'chunks/{name}/weights'] = PATTERNS[part], weights
            file[f'chunks/{name}/positions'] = POSITIONS[part] * OBJECT_PIXEL
        change(file)
    return path


def test_ptypy_data_is_a_scan(tmp_path: Path) -> None:
    """D75: chunks in the order of their numbers, keV, weights zero where a pixel is bad."""
    scan = read_scan(_write_ptyd(tmp_path / 'scan.ptyd')).scan
    _assert_is_the_scan(scan)
    assert scan.bad_pixels is not None and scan.bad_pixels.sum() == 1 and scan.bad_pixels[1, 2]


def test_lists_of_ptypy_are_groups(tmp_path: Path) -> None:
    """D75."""

    def as_lists(file: Any) -> None:
        del file['meta/psize']
        file['meta/psize/00000'] = file['meta/psize/00001'] = PIXEL
        places = file['chunks/0/positions'][()]
        del file['chunks/0/positions']
        for i, place in enumerate(places):
            file[f'chunks/0/positions/{i:05d}'] = place

    _assert_is_the_scan(read_scan(_write_ptyd(tmp_path / 'scan.ptyd', as_lists)).scan)


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('meta/energy', None, r'without meta/energy'),
        ('meta/psize', 0.0, r'without meta/psize'),
        ('chunks', None, r'no scan file: it holds meta'),
        ('chunks/0/positions', np.zeros((3, 2)), r'positions \(10, 2\)'),
    ],
)
def test_ptypy_data_that_is_no_far_field_scan_says_so(tmp_path: Path, key: str, value: Any, words: str) -> None:
    """D75."""
    with pytest.raises(ScanError, match=words):
        read_scan(_write_ptyd(tmp_path / 'scan.ptyd', lambda file: _replace(file, key, value)))


TABLES = {
    'x_um,y_um\n': (',', 1e-6), 'frame;Y (nm);X (nm)\n': (';', 1e-9), '# x_m y_m\n': (' ', 1.0),
    'x [µm]\ty [µm]\n': ('\t', 1e-6), 'column,row\n': (',', None), 'x_px,y_px,z_px\n': (',', None),
}  # fmt: skip


@pytest.mark.parametrize('head', TABLES)
def test_a_table_names_its_columns_and_their_unit(tmp_path: Path, head: str) -> None:
    """D76."""
    separator, unit = TABLES[head]
    last = head.lower().find('y') < head.lower().find('x') and 'frame' in head
    rows = [['0', f'{y:.9g}', f'{x:.9g}'] if last else [f'{x:.9g}', f'{y:.9g}', '7'] for y, x in POSITIONS]
    lines = [separator.join(row if last or 'z' in head else row[:2]) for row in rows]
    (tmp_path / 'table.csv').write_text(head + '\n'.join(lines) + '\n', encoding='utf-8')
    places, found = read_table(tmp_path / 'table.csv')
    np.testing.assert_allclose(places, POSITIONS, atol=1e-6)
    assert found == unit


def _write_tiff(folder: Path, unit: str = 'px', scale: float = 1.0, **settings: Any) -> Path:
    tifffile.imwrite(folder / 'scan.tif', PATTERNS, photometric='minisblack', **settings)
    lines = [f'{x * scale!r},{y * scale!r}' for y, x in POSITIONS.tolist()]
    (folder / 'scan.csv').write_text(f'x_{unit},y_{unit}\n' + '\n'.join(lines), encoding='utf-8')
    return folder / 'scan.tif'


@pytest.mark.parametrize('settings', [{}, {'compression': 'zlib'}, {'bigtiff': True}, {'byteorder': '>'}])
def test_a_tiff_stack_and_its_table_are_a_scan(tmp_path: Path, settings: dict[str, Any]) -> None:
    """D76: memory-mapped where it is not compressed."""
    scan = read_scan(_write_tiff(tmp_path, **settings)).scan
    np.testing.assert_array_equal(scan.diffraction, PATTERNS)
    np.testing.assert_allclose(scan.positions, POSITIONS)
    assert scan.pixel_size is None and isinstance(scan.diffraction, np.memmap) == ('compression' not in settings)


def test_a_folder_of_tiff_images_is_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """D76: 10 comes after 9; lengths need the size of an object pixel."""
    (_write_tiff(tmp_path, 'um', 5e-3)).unlink()
    for i, pattern in enumerate(PATTERNS):
        tifffile.imwrite(tmp_path / f'frame_{i}.tif', pattern)
    with pytest.raises(ScanError, match='--pixel-size'):
        read_scan(tmp_path)
    scan = read_scan(tmp_path, pixel_size=5e-9).scan
    np.testing.assert_array_equal(scan.diffraction, PATTERNS)
    np.testing.assert_allclose(scan.positions, POSITIONS)
    assert scan.pixel_size == (5e-9, 5e-9)


@pytest.mark.parametrize(
    ('table', 'words'),
    [
        ('1,2\n3,4\n', 'no header'),
        ('x,y\n1,2\n', "'y' and 'x'.*do not name one unit"),
        ('x_um,y_mm\n1,2\n', 'do not name one unit'),
        ('x_px,y_px\n1,two\n', 'not all numbers'),
        ('x_px,y_px\n1,2\n', r'12 patterns, but .* 1 positions'),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(tmp_path: Path, table: str, words: str) -> None:
    """D76: no column or unit is guessed."""
    path = _write_tiff(tmp_path)
    (tmp_path / 'scan.csv').write_text(table)
    with pytest.raises(ScanError, match=words):
        read_scan(path)


def test_tiff_images_without_a_table_ask_for_it(tmp_path: Path) -> None:
    """D76."""
    path = _write_tiff(tmp_path)
    (tmp_path / 'scan.csv').unlink()
    with pytest.raises(ScanError, match=r'found 0 CSV files.*scan\.csv'):
        read_scan(path)


def test_a_damaged_tiff_is_named(tmp_path: Path) -> None:
    """D76."""
    path = _write_tiff(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ScanError, match='Cannot read the TIFF images'):
        read_scan(path)


def test_a_table_is_refused_where_the_file_holds_positions(tmp_path: Path) -> None:
    """D76: a setting applies or is refused."""
    with pytest.raises(ScanError, match='holds positions itself'):
        read_scan(_write_cxi(tmp_path / 'scan.cxi'), positions=tmp_path / 'table.csv')


def test_an_object_as_tiff_and_as_cxi(tmp_path: Path) -> None:
    """D77."""
    write_product(tmp_path / 'product.h5', noise_product())
    read = read_object(tmp_path / 'product.h5')
    write_tiff_object(tmp_path / 'object.tif', read.object, read.pixel_size)
    amplitude, phase = tifffile.imread(tmp_path / 'object.tif')
    np.testing.assert_allclose(amplitude * np.exp(1j * phase), read.object, atol=1e-5)
    with tifffile.TiffFile(tmp_path / 'object.tif') as file:
        page: Any = file.pages[0]
        x, y = (page.tags[f'{axis}Resolution'].value for axis in 'XY')
    np.testing.assert_allclose((y[0] / y[1], x[0] / x[1]), 1e-2 / np.array([2e-8, 1e-8]), rtol=1e-6)
    write_cxi_object(tmp_path / 'object.cxi', read.object, read.pixel_size)
    with h5py.File(tmp_path / 'object.cxi') as file:
        np.testing.assert_array_equal(file['entry_1/data_1/data'][()], read.object)
        np.testing.assert_allclose(file['entry_1/image_1/image_size'], [80 * 1e-8, 91 * 2e-8, 0])
        assert file['entry_1/image_1/image_size'].attrs['units'] == 'm'
    again = read_object(tmp_path / 'object.cxi')
    np.testing.assert_array_equal(again.object, read.object)
    assert again.pixel_size == pytest.approx((2e-8, 1e-8))
    with pytest.raises(ScanError, match='without an image'):
        read_object(_write_cxi(tmp_path / 'scan.cxi'))


@pytest.mark.parametrize(
    ('unit', 'meters'),
    [
        ('m', 1),
        ('mm', 1e-3),
        ('um', 1e-6),
        ('µm', 1e-6),
        ('μm', 1e-6),
        ('micron', 1e-6),
        ('microns', 1e-6),
        ('nm', 1e-9),
    ],
)
def test_units_of_a_table(tmp_path: Path, unit: str, meters: float) -> None:
    """D76: in parts of the name, in letters of any size; micro with the sign of its own and with the Greek letter."""
    (tmp_path / 'table.csv').write_text(f'X ({unit.upper() if unit.isascii() else unit}),y_{unit}\n1,2\n', 'utf-8')
    places, found = read_table(tmp_path / 'table.csv')
    assert found == meters and places.tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize(
    'names', ['y_px,x_pix', 'y pixel,x pixels', 'row,col', 'rows,cols', 'row,columns', 'y_px,xcoords_px']
)
def test_names_of_columns_in_object_pixels(tmp_path: Path, names: str) -> None:
    (tmp_path / 'table.csv').write_text(f'\n# a comment\n{names}\n\n2,1\n')
    places, found = read_table(tmp_path / 'table.csv')
    assert found is None and places.tolist() == [[2.0, 1.0]]


def test_a_table_without_rows_has_no_positions(tmp_path: Path) -> None:
    (tmp_path / 'table.csv').write_text('y_px,x_px\n')
    assert read_table(tmp_path / 'table.csv')[0].shape == (0, 2)
    (tmp_path / 'table.csv').write_bytes(b'y_px,x_px\n\xff\xfe')
    with pytest.raises(ScanError, match='write them as a CSV file'):
        read_table(tmp_path / 'table.csv')
    with pytest.raises(ScanError, match='Cannot read the positions'):
        read_table(tmp_path / 'absent.csv')


def test_images_that_differ_in_shape_are_named(tmp_path: Path) -> None:
    _write_tiff(tmp_path).unlink()
    for i in range(COUNT):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.ones((SIDE + (i == 3), SIDE), np.uint16))
    with pytest.raises(ScanError, match=r'differ in shape \(\(16, 16\), \(17, 16\)'):
        read_scan(tmp_path)


LENGTHS = {
    'm': 1, 'meter': 1, 'metre': 1, 'cm': 1e-2, 'mm': 1e-3, 'um': 1e-6, 'µm': 1e-6, 'nm': 1e-9, 'pm': 1e-12,
    'angstrom': 1e-10, 'A': 1e-10, 'micron': 1e-6,
}  # fmt: skip


@pytest.mark.parametrize('unit', LENGTHS)
def test_lengths_of_a_cxi_file_in_any_unit(tmp_path: Path, unit: str) -> None:
    """D70."""
    change = _set('instrument_1/detector_1/distance', DISTANCE / LENGTHS[unit], units=unit)
    assert read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan.pixel_size == pytest.approx((OBJECT_PIXEL,) * 2)


@pytest.mark.parametrize(('unit', 'factor'), [('J', JOULES), ('joule', JOULES), ('eV', 1.0), ('keV', 1e-3)])
def test_energies_of_a_cxi_file_in_any_unit(tmp_path: Path, unit: str, factor: float) -> None:
    """D70."""
    change = _set('instrument_1/source_1/energy', ENERGY * factor, units=unit)
    metadata = read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan.metadata
    assert metadata['photon_energy_eV'] == pytest.approx(ENERGY)


def test_a_unit_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    change = _set('instrument_1/detector_1/distance', DISTANCE, units='furlong')
    with pytest.raises(ScanError, match='furlong'):
        read_scan(_write_cxi(tmp_path / 'scan.cxi', change))


def test_dark_frames_are_not_used_and_that_is_said(tmp_path: Path) -> None:
    path = _write_cxi(tmp_path / 'scan.cxi', _set('instrument_1/detector_1/data_dark', np.ones((SIDE, SIDE))))
    (notice,) = (notice for notice in read_scan(path).notices if notice.code == 'key_ignored')
    assert 'data_dark' in notice.text
    assert not [one for one in read_scan(_write_cxi(tmp_path / 'b.cxi')).notices if one.code == 'key_ignored']


@pytest.mark.parametrize(
    ('basis', 'words'),
    [(np.zeros((2, 3)), r'shape \(2, 3\); expected \(2, 3\), not zero'), (np.ones(3), r'shape \(3,\)')],
)
def test_basis_vectors_that_are_none_are_refused(tmp_path: Path, basis: Any, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        read_scan(_write_cxi(tmp_path / 'scan.cxi', _set('instrument_1/detector_1/basis_vectors', basis)))


@pytest.mark.parametrize('form', ['transposed', 'one for each pattern'])
def test_basis_vectors_in_other_forms(tmp_path: Path, form: str) -> None:
    """The detector's rows point up: the row of each position has the other sign."""
    basis = np.array([[0, PIXEL, 0], [-PIXEL, 0, 0]])
    stored = basis.T if form == 'transposed' else np.repeat(basis[None], COUNT, axis=0)
    scan = read_scan(_write_cxi(tmp_path / 'scan.cxi', _set('instrument_1/detector_1/basis_vectors', stored))).scan
    _assert_is_the_scan(scan, POSITIONS * [-1, 1])


@pytest.mark.parametrize('shape', [(COUNT, SIDE), (2, 3, SIDE, SIDE + 1)])
def test_patterns_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ScanError, match='expected'):
        read_scan(_write_cxi(tmp_path / 'scan.cxi', _set('instrument_1/detector_1/data', np.ones(shape, np.uint16))))


def test_positions_that_are_not_as_many_as_patterns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r'translation of .* has shape \(3, 12\)|expected \(12, 3\)'):
        read_scan(_write_cxi(tmp_path / 'a.cxi', _set('sample_1/geometry_1/translation', np.ones((COUNT, 4)))))
    with pytest.raises(ScanError, match='expected'):
        read_scan(_write_cxi(tmp_path / 'b.cxi', _set('sample_1/geometry_1/translation', np.ones((COUNT - 1, 3)))))


@pytest.mark.parametrize('form', ['transposed', 'two columns'])
def test_translations_in_other_forms(tmp_path: Path, form: str) -> None:
    def change(file: Any) -> None:
        values = file['entry_1/sample_1/geometry_1/translation'][()]
        _replace(file, 'entry_1/sample_1/geometry_1/translation', values.T if form == 'transposed' else values[:, :2])

    _assert_is_the_scan(read_scan(_write_cxi(tmp_path / 'scan.cxi', change)).scan)


@pytest.mark.parametrize('size', [np.ones(2), np.array([1.0, 0.0, 0.0])])
def test_an_image_of_unknown_size_has_no_pixel_size(tmp_path: Path, size: Any) -> None:
    def change(file: Any) -> None:
        file['entry_1/image_1/data'] = np.ones((20, 30), np.complex64)
        file['entry_1/image_1/image_size'] = size

    assert read_object(_write_cxi(tmp_path / 'scan.cxi', change)).pixel_size is None


def test_a_cxi_file_without_an_illumination_has_no_probe(tmp_path: Path) -> None:
    path = _write_cxi(tmp_path / 'scan.cxi')
    assert read_scan(path).scan.probe is None
    with pytest.raises(ScanError, match='without an illumination'):
        read_probe(path)
    real = _write_cxi(tmp_path / 'b.cxi', _set('instrument_1/source_1/illumination', np.ones((SIDE, SIDE))))
    assert read_scan(real).scan.probe is None, 'a map of intensities is no probe'


def test_a_cxi_file_without_an_entry_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / 'scan.cxi', 'w') as file:
        file['cxi_version'] = 160
    with pytest.raises(ScanError, match='CXI file without an entry'):
        read_scan(tmp_path / 'scan.cxi')


def test_ptypy_data_without_patterns_and_without_weights(tmp_path: Path) -> None:
    def drop(key: str) -> Change:
        def change(file: Any) -> None:
            for name in ('0', '2', '10'):
                _replace(file, f'chunks/{name}/{key}', None)

        return change

    assert read_scan(_write_ptyd(tmp_path / 'a.ptyd', drop('weights'))).scan.bad_pixels is None
    with pytest.raises(ScanError, match="without 'data' in its chunks"):
        read_scan(_write_ptyd(tmp_path / 'b.ptyd', drop('data')))


@pytest.mark.parametrize(
    ('energy', 'expected'), [(ENERGY * JOULES, ENERGY), (49.9, 49_900.0), (50.1, 50.1), (8000.0, 8000.0)]
)
def test_an_energy_without_a_unit_is_that_of_a_photon(energy: float, expected: float) -> None:
    """In J; else, since no photon has 1 mJ, in keV below 50, and in eV from there."""
    assert _correct_unit(energy / JOULES) == pytest.approx(expected)
