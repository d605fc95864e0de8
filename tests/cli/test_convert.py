"""`ptychopinn convert`."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from command_line import ok, run, told
from scans import noise_product, small_scan

from ptychopinn_reconstructor.io import read_scan, write_npz, write_product


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write_npz(tmp_path / 'scan.npz', small_scan(positions=16))
    return tmp_path / 'scan.npz'


def test_there_and_back_is_the_same_scan(scan: Path, tmp_path: Path) -> None:
    values = told('convert', scan, tmp_path / 'scan.cxi')
    assert values.pop('notes')[0].startswith('Measurement domain: counts')
    assert values == {'path': str(tmp_path / 'scan.cxi'), 'patterns': 16, 'N': 32, 'domain': 'counts'}
    ok('convert', tmp_path / 'scan.cxi', tmp_path / 'again.npz')
    first, again = read_scan(scan).scan, read_scan(tmp_path / 'again.npz').scan
    np.testing.assert_array_equal(first.diffraction, again.diffraction)
    np.testing.assert_allclose(np.diff(first.positions, axis=0), np.diff(again.positions, axis=0), atol=1e-6)
    assert first.probe is not None and again.probe is not None
    np.testing.assert_array_equal(first.probe, again.probe)


def test_a_cxi_file_is_refined_as_it_is(scan: Path, tmp_path: Path) -> None:
    ok('convert', scan, tmp_path / 'scan.cxi')
    result = ok('refine', tmp_path / 'scan.cxi', '--output-dir', tmp_path / 'out', '--passes', 3, '--json')
    assert json.loads(result.stdout)['residual'] < 0.2


def test_tiff_images_become_a_scan(scan: Path, tmp_path: Path) -> None:
    first = read_scan(scan).scan
    tifffile.imwrite(tmp_path / 'frames.tif', first.diffraction, photometric='minisblack')
    lines = [f'{y * 20},{x * 20}' for y, x in first.positions.tolist()]
    (tmp_path / 'places.csv').write_text('\n'.join(['y_nm,x_nm', *lines]))
    ok('convert', tmp_path / 'frames.tif', tmp_path / 'b.npz', '--positions', tmp_path / 'places.csv',
       '--pixel-size', '2e-8', '--probe', scan, '--measurement-domain', 'counts')  # fmt: skip
    again = read_scan(tmp_path / 'b.npz').scan
    np.testing.assert_array_equal(first.diffraction, again.diffraction)
    np.testing.assert_allclose(first.positions, again.positions, atol=1e-6)
    assert again.pixel_size == (2e-8, 2e-8) and again.probe is not None


@pytest.mark.parametrize('name', ['object.tif', 'object.cxi'])
def test_the_object_of_a_product(name: str, tmp_path: Path) -> None:
    product = noise_product()
    write_product(tmp_path / 'product.h5', product)
    ok('convert', tmp_path / 'product.h5', tmp_path / name)
    if name.endswith('.cxi'):
        with h5py.File(tmp_path / name) as file:
            values = file['entry_1/image_1/data'][()]
    else:
        amplitude, phase = tifffile.imread(tmp_path / name)
        values = amplitude * np.exp(1j * phase)
    np.testing.assert_allclose(values, product.object, atol=1e-5)


def test_another_ending_is_refused(scan: Path, tmp_path: Path) -> None:
    result = run('convert', str(scan), str(tmp_path / 'scan.mat'))
    assert result.exit_code == 2 and 'must end in one of .npz, .cxi' in result.output
    assert not (tmp_path / 'scan.mat').exists()
