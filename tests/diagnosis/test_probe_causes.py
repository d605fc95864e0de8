"""What the probe of a small scan hides: blur, defocus and its drift; what the detector adds to the patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import small_scan
from scipy import ndimage

from ptychopinn_reconstructor import diagnose
from ptychopinn_reconstructor.diagnosis.blur import blur_probe
from ptychopinn_reconstructor.diagnosis.defocus import STEP, defocus_step, propagate_probe
from ptychopinn_reconstructor.diagnosis.drift import End, choose_ends, differ
from ptychopinn_reconstructor.diagnosis.finding import Diagnosis
from ptychopinn_reconstructor.diagnosis.trials import FIXED, Freedom
from ptychopinn_reconstructor.physics.forward import measure, propagate
from ptychopinn_reconstructor.physics.simulation.simulate import expected_counts
from ptychopinn_reconstructor.scan import Scan


@pytest.fixture(scope='module')
def truth() -> Scan:
    return small_scan(probe='zone_plate', step=3.0)


def expected(scan: Scan, probe: NDArray[np.complex64] | None = None) -> NDArray[np.float64]:
    assert scan.object is not None and scan.probe is not None
    light = scan.probe if probe is None else probe
    return np.concatenate(list(expected_counts(np.asarray(scan.object), light, scan.positions + scan.object_origin)))


def measured(scan: Scan, counts: NDArray[np.float64]) -> Scan:
    patterns = np.random.default_rng(4).poisson(counts).astype(np.uint32)
    return replace(scan, diffraction=patterns, object=None, on_object_grid=False)


def codes(found: Diagnosis) -> list[str]:
    return [finding.code for finding in found.findings]


def test_modes_of_a_blur_spread_the_unscattered_pattern_as_the_blur_does(truth: Scan) -> None:
    assert truth.probe is not None
    blurred = blur_probe(truth, 0.8)
    assert blurred.probe is not None and 3 < len(blurred.probe) <= 16
    own, modes = (measure(propagate(probe)[None])[0] for probe in (truth.probe, blurred.probe))
    assert np.abs(modes - ndimage.gaussian_filter(own, 0.8, mode='wrap')).max() < 0.03 * own.max()
    assert np.abs(modes - own).max() > 0.15 * own.max()
    assert modes.sum() == pytest.approx(own.sum(), rel=1e-4)


@pytest.mark.slow
def test_a_blurred_detector_is_told_from_a_probe_of_several_modes(truth: Scan) -> None:
    found = diagnose(measured(truth, ndimage.gaussian_filter(expected(truth), (0, 0.8, 0.8))))
    first = found.findings[0]
    assert first.code == 'blur' and first.mended and '0.' in first.finding
    assert found.scan.probe is not None and len(found.scan.probe) > 3
    assert first.figures['noise_ratio_after'] < 1.3 < first.figures['noise_ratio_before']


def test_a_step_of_defocus_is_one_of_phase_in_the_pupil(truth: Scan) -> None:
    assert truth.probe is not None
    step = defocus_step(truth.probe)
    before, after = (np.fft.fft2(probe[0]) for probe in (truth.probe, propagate_probe(truth.probe, step)))
    phase, power = np.angle(after * before.conj()), np.abs(before) ** 2
    bright = power > 1e-3 * power.max()
    phase = np.unwrap(np.sort(phase[bright]))
    weights = power[bright][np.argsort(np.angle(after * before.conj())[bright])]
    spread = np.sqrt(np.average((phase - np.average(phase, weights=weights)) ** 2, weights=weights))
    assert spread == pytest.approx(STEP, rel=0.15)
    np.testing.assert_allclose(
        propagate_probe(propagate_probe(truth.probe, step), -step), truth.probe, atol=1e-4 * np.abs(truth.probe).max()
    )


@pytest.mark.slow
def test_a_probe_out_of_its_plane_is_propagated_back(truth: Scan) -> None:
    assert truth.probe is not None
    far = propagate_probe(truth.probe, 4 * defocus_step(truth.probe))
    found = diagnose(replace(measured(truth, expected(truth)), probe=far))
    assert codes(found)[0] == 'probe' and found.findings[0].mended
    assert found.scan.probe is not None
    alike = np.abs(np.vdot(found.scan.probe, truth.probe)) / np.linalg.norm(truth.probe) ** 2
    assert alike > 0.95 > np.abs(np.vdot(far, truth.probe)) / np.linalg.norm(truth.probe) ** 2


@pytest.mark.slow
def test_a_defocus_that_drifts_is_named_though_the_middle_of_the_scan_fits(truth: Scan) -> None:
    assert truth.probe is not None
    step, parts = defocus_step(truth.probe), []
    for index in np.array_split(np.arange(len(truth)), 10):
        probe = propagate_probe(truth.probe, 3 * step * (index.mean() / (len(truth) - 1) - 0.5))
        parts.append(
            expected(
                replace(truth, positions=truth.positions[index], diffraction=truth.diffraction[index], scan_index=None),
                probe,
            )
        )
    found = diagnose(measured(truth, np.concatenate(parts)))
    assert codes(found)[0] == 'probe_drift'
    assert abs(found.findings[0].figures['last'] - found.findings[0].figures['first']) > 0.1


def test_ends_differ_only_where_they_ask_for_the_opposite() -> None:
    sound = End((0.010, 0.001, 0.010), 1e-4)
    before, behind = End((0.004, 0.006, 0.016), 1e-4), End((0.016, 0.006, 0.004), 1e-4)
    assert before.best == pytest.approx(-0.75) and behind.best == pytest.approx(0.75) and sound.best == 0
    assert differ(before, behind) and not differ(sound, sound)
    assert not differ(before, End((0.005, 0.006, 0.016), 1e-4))  # a probe that is wrong everywhere
    assert not differ(End((0.004, 0.006, 0.016), 1e-2), End((0.016, 0.006, 0.004), 1e-2))  # hardly any light


def test_a_scan_in_random_order_has_no_ends(truth: Scan) -> None:
    assert choose_ends(truth) is not None
    order = np.random.default_rng(0).permutation(len(truth))
    assert choose_ends(replace(truth, positions=truth.positions[order])) is None


def test_a_flickering_beam_and_a_background_are_found_by_the_engine(truth: Scan) -> None:
    counts = expected(truth)
    power = np.exp(np.random.default_rng(1).normal(0, 0.25, len(counts)))
    flickering = diagnose(measured(truth, counts * power[:, None, None]))
    assert codes(flickering)[0] == 'flicker' and '--intensity' in flickering.findings[0].remedy
    dim = diagnose(measured(truth, counts + 0.06 * counts.mean()))
    assert codes(dim) == ['background'] and '--background' in dim.findings[0].remedy


def test_a_beam_that_decays_is_told_from_a_sample_that_grows_denser() -> None:
    truth = small_scan(positions=196)
    counts = expected(truth)
    falling = diagnose(measured(truth, counts * np.linspace(1, 0.6, len(counts))[:, None, None]))
    assert codes(falling) == ['flicker'] and falling.findings[0].certainty == 'likely'
    assert falling.findings[0].figures['change'] == pytest.approx(-0.4, abs=0.12)
    assert truth.object is not None
    denser = truth.object * np.linspace(1, 0.75, truth.object.shape[0], dtype=np.float32)[:, None]
    found = diagnose(measured(truth, expected(replace(truth, object=denser))))
    assert not any(one.code == 'flicker' and one.certainty != 'possible' for one in found.findings)


def test_what_has_been_found_of_the_detector_is_held_in_later_trials() -> None:
    held = FIXED.holding(Freedom(background=True)).holding(Freedom(intensity=True, probe=True, modes=3))
    assert held == Freedom(background=True, intensity=True)
    assert Freedom(probe=True, modes=3).holding(held) == Freedom(True, 3, False, True, True)
