"""D80: a scan without faults is never changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_scans import draw_scan, fields_of

from ptychopinn_reconstructor.io import read_scan
from ptychopinn_reconstructor.physics.inspection.inspect import mend_scan

SHARED = Path(__file__).resolve().parents[4] / 'shared' / 'data'


@pytest.mark.parametrize('first', [20, *(pytest.param(first, marks=pytest.mark.slow) for first in (0, 40))])
def test_a_drawn_scan_is_left_as_it_is(first: int) -> None:
    """With whatever object, probe, modes, dose and overlap."""
    for seed in range(first, first + 20):
        scan = draw_scan(seed)
        found, notices = mend_scan(**fields_of(scan))
        assert not notices, (seed, notices)
        assert np.array_equal(found.diffraction, scan.diffraction) and found.bad_pixels is None
        assert found.count_unit == 1 and np.array_equal(found.positions, scan.positions)


@pytest.mark.slow
def test_many_drawn_scans_are_left_as_they_are() -> None:
    """The same for hundreds, but for one pixel in one of them, which 25 frames of a grating leave dark."""
    changed = [found for seed in range(60, 600) if (found := mend_scan(**fields_of(draw_scan(seed)))[1])]
    assert len(changed) <= 1 and all(notice.text.startswith('1 pixels') for found in changed for notice in found)


@pytest.mark.parametrize('seed', range(0, 24, 3))
def test_a_mask_that_is_right_stays(seed: int) -> None:
    """A beam stop and a gap that the file marks, whatever lies below."""
    scan = draw_scan(seed)
    n = scan.n_pixels
    bad = np.zeros((n, n), bool)
    bad[n // 2 - 2 : n // 2 + 2, n // 2 - 2 : n // 2 + 2] = bad[n // 4 : n // 4 + 2] = True
    for below in (0, 1_000_000):
        patterns = np.where(bad, below, scan.diffraction)
        found, notices = mend_scan(**fields_of(scan, diffraction=patterns, bad_pixels=bad))
        assert not notices and found.bad_pixels is not None and np.array_equal(found.bad_pixels, bad)


@pytest.mark.parametrize('name', ['siemens_star_velociprobe', 'simulated_A'])
def test_a_measured_scan_is_left_as_it_is(name: str) -> None:
    """Its probe being a guess that is far off, or known."""
    path = SHARED / f'{name}.npz'
    if not path.exists():
        pytest.skip('the shared data are not here')
    read = read_scan(path)
    assert [notice.code for notice in read.notices] == ['measurement_domain']
    assert read.scan.bad_pixels is None
