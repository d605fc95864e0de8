"""Photons for patterns without counts (clause S8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.physics.photons import holds_counts, with_photons
from ptychopinn_reconstructor.scan import Domain, Scan


def changed(values: Any, domain: Domain = 'counts') -> Scan:
    return replace(small_scan(), diffraction=values, domain=domain)


COUNTS = np.asarray(small_scan().diffraction, dtype=np.float64)


@pytest.mark.parametrize(
    ('scan', 'known'),
    [
        (small_scan(), True),
        (changed(COUNTS.astype(np.float32)), True),
        (changed(np.sqrt(COUNTS).astype(np.float32), 'amplitude'), True),
        (changed((COUNTS / COUNTS.max()).astype(np.float32)), False),
        (changed(np.sqrt(COUNTS / COUNTS.mean()).astype(np.float32), 'amplitude'), False),
    ],
    ids=['integers', 'float counts', 'root of counts', 'normalized', 'normalized amplitude'],
)
def test_photons_are_given_to_what_has_no_counts(scan: Scan, known: bool) -> None:
    """S8, SETTINGS: counts are never touched; anything else gets the mean that is asked for, pattern by pattern."""
    assert holds_counts(scan) is known
    found, (notice,) = with_photons(scan, 5e4)
    if known:
        assert found is scan
        assert 'not used' in notice.text
        return
    assert found.mean_counts == pytest.approx(5e4, rel=1e-5)
    np.testing.assert_allclose(found.pattern_counts / scan.pattern_counts, 5e4 / scan.mean_counts, rtol=1e-5)
    assert '50000 photons' in notice.text


def test_the_true_number_gives_the_counts_back() -> None:
    """S8: a scan divided by a constant is, with its true mean, the scan it was."""
    original = small_scan()
    normalized = changed((COUNTS / 7e3).astype(np.float32))
    index = np.arange(5)
    found = with_photons(normalized, original.mean_counts)[0].counts(index)
    np.testing.assert_allclose(found, original.counts(index), rtol=1e-4, atol=1e-4)


def test_without_the_setting_nothing_changes() -> None:
    scan = changed((COUNTS / 7e3).astype(np.float32))
    assert with_photons(scan, None) == (scan, ())
