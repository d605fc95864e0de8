"""Files that the host and we exchange, read and written by the host's own functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ptychodus.api.io import load_diffraction_data, load_product
from ptychodus.api.reconstruct import prepare_reconstruct_input
from scans import noise_product

from ptychopinn_reconstructor.host.releases import export_training_data, map_to_pixels
from ptychopinn_reconstructor.io import read_scan, write_diffraction, write_product


def test_what_the_host_exports_is_read_as_counts(tmp_path: Path) -> None:
    """D25, D16: a real export of values that are not whole numbers, with and without a mask of bad pixels."""
    patterns = np.random.default_rng(0).uniform(0, 40, (20, 16, 16)).astype(np.float32)
    write_product(tmp_path / 'product.h5', noise_product(metadata={}))
    write_diffraction(tmp_path / 'diffraction.h5', patterns, bad_pixels=np.eye(16, dtype=bool))
    product = load_product(tmp_path / 'product.h5')
    given = prepare_reconstruct_input(load_diffraction_data(tmp_path / 'diffraction.h5'), product)
    for i, parameters in enumerate((given, replace(given, bad_pixels=None))):  # type: ignore[arg-type]
        export_training_data(tmp_path / f'{i}.npz', parameters)
        file, hdf5_file = read_scan(tmp_path / f'{i}.npz'), read_scan(tmp_path)
        scan, same = file.scan, hdf5_file.scan
        assert scan.domain == 'counts' and any('Ptychodus exports' in notice.text for notice in file.notices)
        np.testing.assert_array_equal(scan.probe, same.probe)
        np.testing.assert_array_equal(scan.object, same.object)
        np.testing.assert_allclose(scan.positions, same.positions + same.object_origin, atol=1e-9)
        assert scan.bad_pixels is not None and scan.bad_pixels.sum() == (16, 0)[i]
        np.testing.assert_array_equal(
            scan.counts(slice(None))[:, ~np.eye(16, dtype=bool)], patterns[:, ~np.eye(16, dtype=bool)]
        )


def test_the_host_itself_reads_what_we_write(tmp_path: Path) -> None:
    """D30 to D36: the host pairs the same patterns and finds the same places in the object."""
    patterns = np.random.default_rng(0).poisson(9, (30, 16, 16)).astype(np.uint16)
    write_product(tmp_path / 'product.h5', noise_product())
    write_diffraction(tmp_path / 'diffraction.h5', patterns)
    product = load_product(tmp_path / 'product.h5')
    given = prepare_reconstruct_input(load_diffraction_data(tmp_path / 'diffraction.h5'), product)
    scan = read_scan(tmp_path).scan
    places = map_to_pixels(product.object_.get_geometry(), given.product.probe_positions)
    np.testing.assert_array_equal(scan.diffraction, given.diffraction_patterns)
    np.testing.assert_allclose(scan.positions + scan.object_origin, places, atol=1e-9)
    assert [(loss.epoch, loss.value) for loss in product.losses] == [(0, 2.5), (4, 1.25)]
