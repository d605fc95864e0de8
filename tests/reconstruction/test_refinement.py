"""How many passes the engine makes by itself: as from an empty object where a network's is far from the data."""

from __future__ import annotations

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction.refinement import classify_start
from ptychopinn_reconstructor.scan import Scan


@pytest.fixture(scope='module')
def scan() -> Scan:
    return small_scan(positions=100, photons=1e5)


@pytest.mark.parametrize(('error', 'expected'), [(0.0, 'network'), (0.02, 'network'), (0.5, 'empty')])
def test_an_object_far_from_the_data_needs_the_passes_of_an_empty_one(scan: Scan, error: float, expected: str) -> None:
    prepared, rng = prepare_scan(scan), np.random.default_rng(0)
    assert scan.object is not None
    row, column = (round(value) for value in np.subtract(scan.object_origin, prepared.layout.origin))
    height, width = prepared.layout.shape
    truth = scan.object[row : row + height, column : column + width]
    noise = rng.normal(size=(2, *truth.shape))
    object_ = (truth * np.exp(error * (noise[0] + 1j * noise[1]))).astype(np.complex64)
    assert classify_start(prepared, object_) == expected
