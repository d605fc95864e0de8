"""How densely a scan samples its object, and what a model was trained for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.model_file.training_range import TrainingRange
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.sampling import scan_overlap, scan_step


def range_of(counts: Any = None, probe_power: Any = None, overlap: Any = None) -> TrainingRange:
    return TrainingRange(counts=counts, probe_power=probe_power, overlap=overlap)


def test_the_step_of_a_raster_is_its_period() -> None:
    y, x = np.mgrid[:9, :7] * 6.5
    raster = np.stack([y.ravel(), x.ravel()], axis=1) + 1000.25
    assert scan_step(raster) == pytest.approx(6.5)
    assert scan_step(np.concatenate([raster, raster])) == pytest.approx(6.5), 'a second visit is no neighbor'
    assert scan_step(raster[:1]) == 0.0
    disk = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 13 / np.sqrt(0.9)
    assert scan_overlap(raster, disk[None].astype(complex)) == pytest.approx(1 - 6.5 / 26, abs=0.03)


def test_a_scan_lies_within_the_range_of_itself_and_of_a_training_with_it() -> None:
    bright, weak = (prepare_scan(small_scan(photons=photons)) for photons in (1e5, 1e3))
    one, both = TrainingRange.of_scans(bright), TrainingRange.of_scans(bright, weak)
    assert one.counts == pytest.approx((bright.scan.mean_counts,) * 2)
    assert both.counts == pytest.approx((weak.scan.mean_counts, bright.scan.mean_counts))
    assert (
        not one.list_departures(one)
        and not both.list_departures(one)
        and not both.list_departures(TrainingRange.of_scans(weak))
    )
    (notice,) = one.list_departures(TrainingRange.of_scans(weak))
    assert notice.code == 'dose' and f'{weak.scan.mean_counts:.3g}' in notice.text


def test_each_entry_warns_of_its_own() -> None:
    trained = range_of((1e4, 1e5), (2e4, 2e5), (0.6, 0.7))
    assert not trained.list_departures(range_of((4e3, 4e3), (8e3, 8e3), (0.9, 0.9))), (
        'within a factor of 3, and more overlap'
    )
    found = trained.list_departures(range_of((5e5, 5e5), (6e5, 6e5), (0.3, 0.3)))
    assert [notice.code for notice in found] == ['dose', 'overlap']
    (notice,) = trained.list_departures(range_of((5e4, 5e4), (1e6, 1e6), (0.65, 0.65)))
    assert notice.code == 'probe_power' and '1e+06' in notice.text and '2e+04 to 2e+05' in notice.text
    assert 'overlap by 30% ' in trained.list_departures(range_of(overlap=(0.3, 0.3)))[0].text


def test_what_is_unknown_warns_of_nothing() -> None:
    known = range_of((1e4, 1e5), None, (0.6, 0.7))
    assert not range_of().list_departures(known) and not known.list_departures(range_of())


def test_the_range_of_several_is_the_hull_of_its_parts() -> None:
    joined = range_of((2.0, 3.0)).join(range_of((1.0, 2.5), (4.0, 5.0)), range_of())
    assert joined == range_of((1.0, 3.0), (4.0, 5.0))


def test_a_pretraining_is_for_doses_around_its_own_and_any_overlap() -> None:
    assert range_of((2.0, 4.0), (6.0, 6.0), (0.5, 0.5)).widen(2.0) == range_of((1.0, 8.0), (3.0, 12.0))


def test_bad_pixels_do_not_count_as_less_dose() -> None:
    from dataclasses import replace

    scan = small_scan()
    bad = np.zeros((32, 32), dtype=bool)
    bad[14:18, 14:18] = True
    whole, masked = (TrainingRange.of_scans(prepare_scan(s)) for s in (scan, replace(scan, bad_pixels=bad)))
    assert whole.counts is not None and masked.counts is not None
    assert masked.counts[0] == pytest.approx(whole.counts[0], rel=0.1)
