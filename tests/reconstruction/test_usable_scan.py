"""D80: a Scan made in Python is mended where it is used, unless it is to be taken as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_scan, write_npz
from ptychopinn_reconstructor.reconstruction.usable_scan import make_usable
from ptychopinn_reconstructor.scan import Scan

ENGINE = short_config(refinement__passes=1, execution__backend='torch')


@pytest.fixture(scope='module')
def faulty() -> Scan:
    """Two hot pixels and a frame without the beam."""
    scan = small_scan(positions=64)
    counts = np.array(scan.diffraction).astype(np.uint32)
    counts[:, 3, 4] = counts[:, 20, 7] = 60_000
    counts[30] = 0
    return replace(scan, diffraction=counts)


def changes(scan: Scan, *, as_is: bool = False) -> tuple[Scan, set[str]]:
    found, notices = make_usable(scan, short_config(data__as_is=as_is).data)
    return found, {notice.code for notice in notices}


def hot(scan: Scan) -> NDArray[np.int64]:
    assert scan.bad_pixels is not None
    return np.argwhere(scan.bad_pixels)


def test_what_is_certain_is_mended_once(faulty: Scan) -> None:
    found, codes = changes(faulty)
    assert codes == {'hot_pixels', 'lost_frames'}
    assert hot(found).tolist() == [[3, 4], [20, 7]]
    assert np.array_equal(found.positions, np.delete(faulty.positions, 30, axis=0))
    assert changes(found) == (found, set())


def test_as_it_is_nothing_changes(faulty: Scan) -> None:
    kept = replace(faulty, as_is=True)
    assert changes(kept) == (kept, set())
    assert changes(faulty, as_is=True) == (faulty, set())


def test_readers_have_looked_already(faulty: Scan, tmp_path: Path) -> None:
    write_npz(tmp_path / 'scan.npz', faulty)
    read, kept = (read_scan(tmp_path / 'scan.npz', as_is=as_is) for as_is in (False, True))
    assert len(hot(read.scan)) == 2 and changes(read.scan) == (read.scan, set())
    assert kept.scan.bad_pixels is None and changes(kept.scan) == (kept.scan, set())


def test_patterns_of_two_scans_are_refused(faulty: Scan) -> None:
    two = replace(faulty, scan_index=np.arange(64) % 2)
    with pytest.raises(ScanError, match=r'of 2 scans \(scan_index 0, 1\); make a Scan of each, or set as_is'):
        make_usable(two, ENGINE.data)
    assert changes(two, as_is=True)[0] is two


def test_refinement_takes_it_mended_and_says_so(faulty: Scan) -> None:
    result = pp.refine(faulty, ENGINE)
    assert {'hot_pixels', 'lost_frames'} <= {notice.code for notice in result.report.notices}
    assert result.report.run.patterns == 63 and len(result.reconstruction.positions) == 63
    as_is = pp.refine(replace(faulty, as_is=True), ENGINE)
    assert as_is.report.run.patterns == 64 and as_is.report.residual > 3 * result.report.residual
