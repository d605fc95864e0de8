"""Diagnoses of small simulated scans with one known fault: it is named first, and mended where that is possible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor import diagnose, read_scan
from ptychopinn_reconstructor.diagnosis.explanations import explain_map
from ptychopinn_reconstructor.diagnosis.finding import Diagnosis
from ptychopinn_reconstructor.diagnosis.trials import take_part
from ptychopinn_reconstructor.diagnosis.turns import SAME, TURNS, turn_detector, turn_positions
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.physics.forward import measure, propagate
from ptychopinn_reconstructor.scan import Scan


@pytest.fixture(scope='module')
def scan() -> Scan:
    return replace(small_scan(probe='gaussian', step=3.0), object=None, on_object_grid=False)


def codes(found: Diagnosis) -> list[str]:
    return [finding.code for finding in found.findings]


def test_a_clean_scan_has_no_findings_and_costs_one_trial(scan: Scan) -> None:
    found = diagnose(scan)
    assert codes(found) == []
    assert [trial.assumption for trial in found.trials] == ['the scan as it is']
    assert found.trials[0].noise_ratio < 1.2
    assert found.scan.diffraction.shape == scan.diffraction.shape and found.scan.bad_pixels is None


def test_a_transposed_detector_is_named_first_and_turned_back(scan: Scan) -> None:
    turned = replace(scan, diffraction=np.ascontiguousarray(scan.diffraction.transpose(0, 2, 1)))
    found = diagnose(turned)
    assert codes(found) == ['orientation']
    first = found.findings[0]
    assert first.certainty == 'certain' and 'transposed' in first.finding and first.mended
    assert first.figures['noise_ratio_after'] < 1.2 < first.figures['noise_ratio_before'] / 2
    np.testing.assert_array_equal(np.asarray(found.scan.diffraction), scan.diffraction)


def test_a_conjugate_probe_is_named_first_and_mended(scan: Scan) -> None:
    """It is the probe that is mended, not the patterns, so that the object is not complex-conjugated in its place."""
    assert scan.probe is not None
    found = diagnose(replace(scan, probe=scan.probe.conj(), object=None))
    assert codes(found)[0] == 'orientation' and 'conjugate' in found.findings[0].finding
    assert found.scan.probe is not None
    likeness = np.vdot(found.scan.probe, scan.probe)
    assert abs(likeness) > 0.99 * np.vdot(scan.probe, scan.probe).real
    np.testing.assert_array_equal(np.asarray(found.scan.diffraction), scan.diffraction)


def test_a_map_is_told_with_the_sign_of_its_angle() -> None:
    """A position along rows that the map carries towards columns is turned by a positive angle."""
    turn = np.radians(5.0)
    matrix = 1.02 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert (matrix @ [1.0, 0.0])[1] > 0
    assert 'a scale of 1.0200 and 5.00 degrees from rows towards columns' in explain_map(matrix, 'a map').finding


def test_without_time_only_the_data_are_looked_at(scan: Scan) -> None:
    turned = replace(scan, diffraction=np.ascontiguousarray(scan.diffraction.transpose(0, 2, 1)))
    found = diagnose(turned, seconds=0)
    assert codes(found) == [] and found.trials == () and found.cpu_seconds == 0


def test_what_the_reading_mends_is_a_finding(scan: Scan) -> None:
    counts = np.array(scan.diffraction)
    counts[:, 4, 27] += 20000
    found = diagnose(replace(scan, diffraction=counts))
    assert codes(found) == ['bad_pixels']
    assert 'row 4, column 27' in found.findings[0].finding
    assert found.scan.bad_pixels is not None and found.scan.bad_pixels.sum() == 1


def test_clipped_counts_are_saturated(scan: Scan) -> None:
    limit = int(np.quantile(np.asarray(scan.diffraction).max(axis=(1, 2)), 0.3))
    found = diagnose(replace(scan, diffraction=np.minimum(scan.diffraction, limit)), seconds=0)
    assert codes(found)[0] == 'saturated'
    assert found.findings[0].figures['largest_count'] == limit


def test_a_stage_that_stands_still_doubles_positions(scan: Scan) -> None:
    positions = scan.positions.copy()
    positions[40:50] = positions[40]
    found = diagnose(replace(scan, positions=positions), seconds=0)
    assert codes(found)[0] == 'positions_doubled'
    assert len(found.scan) == 90


def test_patterns_measured_twice_at_a_place_are_no_fault(scan: Scan) -> None:
    twice = replace(
        scan,
        diffraction=np.concatenate([scan.diffraction] * 2),
        positions=np.concatenate([scan.positions] * 2),
        scan_index=None,
    )
    assert codes(diagnose(twice, seconds=0)) == []


def test_a_spot_in_place_of_an_annular_probe_is_named(scan: Scan) -> None:
    annular = replace(small_scan(probe='zone_plate', step=3.0), object=None, on_object_grid=False)
    assert codes(diagnose(annular)) == []
    found = diagnose(replace(annular, probe=scan.probe))
    assert codes(found) == ['probe']
    assert found.findings[0].figures['likeness'] < 0.6


def test_a_beam_that_loses_half_its_power_is_seen(scan: Scan) -> None:
    rng = np.random.default_rng(0)
    left = rng.binomial(scan.diffraction.astype(np.int64), np.linspace(1, 0.5, len(scan))[:, None, None])
    found = diagnose(replace(scan, diffraction=left.astype(np.uint16)), seconds=0)
    assert codes(found) == ['flicker'] and found.findings[0].certainty == 'possible'
    assert found.findings[0].figures['change'] == pytest.approx(-0.5, abs=0.1)


def test_positions_in_another_unit_are_a_finding_not_an_error(scan: Scan) -> None:
    found = diagnose(replace(scan, positions=scan.positions * 0.02), seconds=0)
    assert codes(found) == ['position_unit'] and found.trials == () and not found.findings[0].mended
    assert 'micrometers' in found.findings[0].finding


def test_positions_in_another_unit_are_scaled_as_their_patterns_ask(scan: Scan) -> None:
    found = diagnose(replace(scan, positions=scan.positions * 0.02))
    assert codes(found) == ['position_unit'] and found.findings[0].mended
    assert found.findings[0].figures['factor'] == pytest.approx(50, rel=0.01)
    np.testing.assert_allclose(np.ptp(found.scan.positions, axis=0), np.ptp(scan.positions, axis=0), rtol=0.01)


def test_large_patterns_are_cropped_to_where_their_light_is() -> None:
    large = replace(small_scan(n=256, positions=36, step=20.0, probe='gaussian'), object=None, on_object_grid=False)
    part = take_part(large, np.arange(36))
    assert part.n_pixels == 192
    assert part.counts(slice(None)).sum() > 0.999 * large.counts(slice(None)).sum()
    assert part.probe is not None and large.probe is not None
    assert np.linalg.norm(part.probe) == pytest.approx(np.linalg.norm(large.probe), rel=1e-3)
    ratio = part.n_pixels / 256
    assert np.ptp(part.positions, axis=0) == pytest.approx(ratio * np.ptp(large.positions, axis=0))
    own, cropped = (measure(propagate(one.probe)[None])[0] for one in (large, part) if one.probe is not None)
    np.testing.assert_allclose(cropped, own[32:-32, 32:-32], atol=1e-3 * own.max())


def test_lost_positions_that_lie_together_are_found(scan: Scan) -> None:
    positions = scan.positions.copy()
    positions[[4, 5]] += [2000.0, -1500.0]
    found = diagnose(replace(scan, positions=positions), seconds=0)
    assert codes(found) == ['position_outliers'] and len(found.scan) == 98


@pytest.mark.slow
def test_stretched_positions_are_mapped_back(scan: Scan) -> None:
    found = diagnose(replace(scan, positions=scan.positions * 1.1))
    assert codes(found) == ['position_scale']
    extent, true = (np.ptp(one.positions, axis=0) for one in (found.scan, scan))
    np.testing.assert_allclose(extent / true, 1, atol=0.02)


def test_a_scan_without_a_probe_says_so(scan: Scan) -> None:
    found = diagnose(replace(scan, probe=None))
    assert codes(found) == ['no_probe'] and found.trials == ()


def test_turned_twice_is_as_it_was(scan: Scan) -> None:
    for turn in TURNS:
        back = next(other for other in (*TURNS, SAME) if (other.images(turn.images(IMAGE)) == IMAGE).all())
        mean = np.asarray(scan.diffraction).mean(axis=0)
        plain = replace(scan, diffraction=turn.images(np.asarray(scan.diffraction)))
        np.testing.assert_array_equal(
            np.asarray(turn_detector(plain, back, turn.images(mean)).diffraction), scan.diffraction
        )
        np.testing.assert_allclose(
            turn_positions(turn_positions(scan, turn), back).positions, scan.positions, atol=1e-12
        )


IMAGE = np.arange(16).reshape(4, 4)


@pytest.mark.slow
def test_the_mended_scan_is_written_and_read_as_one(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp('mended') / 'mended.npz'
    turned = replace(scan, diffraction=np.ascontiguousarray(scan.diffraction.transpose(0, 2, 1)))
    write_npz(path, diagnose(turned).scan)
    np.testing.assert_array_equal(read_scan(path).scan.diffraction, scan.diffraction)
