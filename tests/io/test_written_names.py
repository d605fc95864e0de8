"""What is in the files that are written, read by the names that other programs use."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from bad_inputs import good_arrays
from scans import noise_product, small_scan

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import images, read_scan, write_cxi, write_npz
from ptychopinn_reconstructor.io.cxi_writing import write_cxi_object
from ptychopinn_reconstructor.io.far_field import _measure_step
from ptychopinn_reconstructor.io.hdf5 import open_file
from ptychopinn_reconstructor.io.members import NpzMembers
from ptychopinn_reconstructor.io.survey import survey_file
from ptychopinn_reconstructor.io.tiff import write_tiff_object

WAVELENGTH = 1.2398419843320026e-6 / 8000.0


def test_a_cxi_file_holds_a_scan_by_its_own_names(tmp_path: Path) -> None:
    """Known in pixels only: at 8 keV, with detector pixels of 75 um."""
    scan = small_scan(positions=9)
    write_cxi(tmp_path / 'scan.cxi', scan)
    with h5py.File(tmp_path / 'scan.cxi') as file:
        assert file['cxi_version'][()] == 160
        entry = file['entry_1']
        source, detector = entry['instrument_1/source_1'], entry['instrument_1/detector_1']
        assert source['energy'][()] == pytest.approx(8000.0 * 1.602176634e-19)
        assert source['wavelength'][()] == pytest.approx(WAVELENGTH)
        pixels = detector['y_pixel_size'][()], detector['x_pixel_size'][()]
        assert pixels == pytest.approx((75e-6, 75e-6))
        translation = entry['sample_1/geometry_1/translation']
        size = WAVELENGTH * detector['distance'][()] / (32 * 75e-6)
        np.testing.assert_allclose(translation[:, :2] / size, scan.positions[:, ::-1])
        assert not translation[:, 2].any() and translation.attrs['units'] == 'm'
        assert np.array_equal(entry['data_1/data'][()], detector['data'][()])
        assert np.array_equal(entry['data_1/translation'][()], translation[()])
        assert source['energy'].attrs['units'] == 'J' and detector['distance'].attrs['units'] == 'm'
        assert scan.probe is not None and np.array_equal(entry['instrument_1/source_1/illumination'][()], scan.probe)
        assert detector['mask'].dtype == np.uint32 and not detector['mask'][()].any()
        assert entry['title'][()].decode() == 'simulated'
        np.testing.assert_allclose(detector['basis_vectors'][()], [[0, -75e-6, 0], [-75e-6, 0, 0]])


def test_amplitudes_are_written_as_counts_in_cxi(tmp_path: Path) -> None:
    scan = small_scan(positions=9)
    root = np.sqrt(np.asarray(scan.diffraction, np.float32))
    write_cxi(tmp_path / 'a.cxi', replace(scan, diffraction=root, domain='amplitude', on_object_grid=False))
    with h5py.File(tmp_path / 'a.cxi') as file:
        stored = file['entry_1/data_1/data']
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored[()], scan.diffraction, atol=0.01)


def test_an_object_in_cxi_says_what_it_is(tmp_path: Path) -> None:
    write_cxi_object(tmp_path / 'a.cxi', noise_product().object, None)
    with h5py.File(tmp_path / 'a.cxi') as file:
        image = file['entry_1/image_1']
        assert file['cxi_version'][()] == 160 and 'image_size' not in image
        assert image['data_space'][()] == b'real' and image['data_type'][()] == b'complex transmission'


def test_an_object_as_tiff_names_its_two_images(tmp_path: Path) -> None:
    write_tiff_object(tmp_path / 'a.tif', noise_product().object, None)
    with tifffile.TiffFile(tmp_path / 'a.tif') as file:
        pages: Any = file.pages
        assert [page.description for page in pages] == ['amplitude', 'phase (rad)']
        assert 'Software' not in pages[0].tags and 'DateTime' not in pages[0].tags


def test_the_domain_that_a_file_declares_is_taken(tmp_path: Path) -> None:
    """Whole numbers that are amplitudes would be taken for counts otherwise."""
    arrays = good_arrays()
    for domain in ('amplitude', 'counts'):
        np.savez(tmp_path / 'a.npz', **arrays | {'measurement_domain': domain})
        read = read_scan(tmp_path / 'a.npz')
        assert read.scan.domain == domain
        assert any(notice.text.endswith(f'{domain}, as the file declares.') for notice in read.notices)
    np.savez(tmp_path / 'a.npz', **arrays | {'measurement_domain': 'else'})
    assert read_scan(tmp_path / 'a.npz').scan.domain == 'counts'


def test_what_is_no_array_is_no_key_of_an_npz_file(tmp_path: Path) -> None:
    write_npz(tmp_path / 'a.npz', small_scan(positions=16))
    with zipfile.ZipFile(tmp_path / 'a.npz', 'a') as archive:
        archive.writestr('readme.txt', b'hello')
    with NpzMembers(tmp_path / 'a.npz') as members:
        assert 'readme.txt' not in members.keys and 'diff3d' in members and 'readme.txt' not in members
    assert len(read_scan(tmp_path / 'a.npz').scan) == 16


@pytest.mark.parametrize('version', [(1, 0), (2, 0), (3, 0)])
def test_versions_of_arrays_in_an_npz_file(tmp_path: Path, version: tuple[int, int]) -> None:
    np.savez(tmp_path / 'a.npz', **{key: value for key, value in good_arrays().items() if key != 'xcoords'})
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, good_arrays()['xcoords'], version=version)
    with zipfile.ZipFile(tmp_path / 'a.npz', 'a') as archive:
        archive.writestr('xcoords.npy', buffer.getvalue())
    if version == (3, 0):
        with pytest.raises(ScanError, match=r'truncated or damaged at xcoords \(ValueError\)'):
            read_scan(tmp_path / 'a.npz')
    else:
        assert len(read_scan(tmp_path / 'a.npz').scan) == 10


def test_a_file_leads_to_those_that_open(tmp_path: Path) -> None:
    """Not to itself, nor to one that is damaged, which is told where it is used."""
    for name in ('a', 'b'):
        with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
            file['data'] = np.ones(3)
            for other in ('b', 'c', 'absent'):
                file[other] = h5py.ExternalLink(f'{other}.h5', '/data')
    (tmp_path / 'c.h5').write_bytes(b'no HDF5')
    with h5py.File(tmp_path / 'a.h5') as file:
        assert survey_file(file, open_file) == [tmp_path / 'b.h5']
        assert file['data'][0] == 1, 'still open'
    with h5py.File(tmp_path / 'b.h5', 'a') as file:
        del file['c'], file['absent'], file['b']
        assert survey_file(file, open_file) == []


def test_two_positions_are_a_step_apart() -> None:
    assert _measure_step(np.array([[0.0, 0.0], [3.0, 4.0]])) == 5.0


def test_an_evaluation_shows_results_beside_the_truth_and_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        drawn.append(figure)
        return path

    monkeypatch.setattr(images, 'save_figure', keep)
    truth: Any = np.full((20, 30), 2 * np.exp(1j))
    pairs = [images.ImagePair(name, truth * factor, truth) for name, factor in (('a', 1.5), ('b', np.exp(0.5j)))]
    curve = {'frequency': [0.1, 0.5], 'correlation': [1.0, 0.5], 'half_bit': [0.5, 0.4]}
    assert images.write_evaluation(tmp_path / 'e.png', pairs, {'a': curve}) == tmp_path / 'e.png'
    axes = [axis for axis in drawn[0].axes if axis.images]
    shown = [np.asarray(axis.images[0].get_array()) for axis in axes]
    assert [axis.get_title() for axis in axes[:3]] == ['truth', 'a', 'b'] and len(shown) == 10
    means = [float(values.mean()) for values in shown]
    # Amplitudes, phases about the mean of the truth, and differences from it: result less truth.
    np.testing.assert_allclose(means, [2, 3, 2, 0, 0, 0.5, 1, 0, 0, 0.5], atol=1e-9)
    assert [axis for axis in drawn[0].axes if axis.lines], 'the correlation below'
    width, height = drawn[0].get_size_inches()
    assert width == pytest.approx(3 * 2.7 + 1.0) and height == pytest.approx(4 * 2.7 * 2 / 3 + 2.9 + 0.6)


def test_differences_are_the_second_less_the_first() -> None:
    one, two = np.full((2, 2), 2.0 + 0j), np.full((2, 2), 3 * np.exp(0.5j))
    amplitude, phase = images.make_difference_rows([(one, two)], ('A', 'p'), ['a'])
    np.testing.assert_allclose(amplitude.panels[0], 1.0)
    np.testing.assert_allclose(phase.panels[0], 0.5)
    assert (amplitude.scale.label, phase.scale.label, amplitude.titles) == ('A', 'p', ['a'])
    assert math.isclose(phase.scale.limits[1], 0.5)
