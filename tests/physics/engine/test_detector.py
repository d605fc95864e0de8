"""Background and power of the beam: exact scores, closed forms, and what the engine finds of both in noisy patterns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_cases import Case, N, empty
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.engine.background import (
    background_share,
    radial_hats,
    solve_nonnegative,
    step_background,
    suspected_background,
)
from ptychopinn_reconstructor.physics.engine.detector import DetectorSums, Switch
from ptychopinn_reconstructor.physics.engine.detector_fit import DetectorFit
from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.intensity import (
    amplitude_slopes,
    intensity_deviation,
    long_range_amplitude,
    sample_at_patterns,
    step_intensity,
)
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.update import Engine
from ptychopinn_reconstructor.physics.forward import diffract
from ptychopinn_reconstructor.physics.geometry import gather_patches
from ptychopinn_reconstructor.physics.illumination import illumination
from ptychopinn_reconstructor.physics.prepare import PreparedScan
from ptychopinn_reconstructor.physics.stitching.count_scale import count_gauge

Image = NDArray[np.float64]
HALO = 1 / (1 + (np.hypot(*np.ogrid[-16:16, -16:16]) / 8) ** 2)  # smooth, falls with the distance


def measured(case: Case, *, background: Any = 0.0, intensity: Any = 1.0, noise: bool = True) -> PreparedScan:
    """The scan of a case, in canonical order as the case draws it, with a background and a beam that varies."""
    expected = case.counts * np.reshape(intensity, (-1, 1, 1)) + background
    counts = np.random.default_rng(5).poisson(expected) if noise else expected
    return case.prepared(diffraction=counts.astype(np.float64))


def known(prepared: PreparedScan, background: Any = 0.0, intensity: Any = 1.0) -> PreparedScan:
    """The scan with what is true of its detector; `intensity` in the order of the file."""
    count = len(prepared)
    return replace(
        prepared,
        background=np.broadcast_to(np.float32(background), (N, N)),
        intensity=np.broadcast_to(np.float32(intensity), count)[prepared.order],
    )


def beam(count: int, deviation: float = 0.2) -> Image:
    values = np.exp(np.random.default_rng(2).normal(0, deviation, count))
    return np.asarray(values / values.mean())


def error(case: Case, prepared: PreparedScan, canvas: NDArray[np.complex64]) -> float:
    """Relative error of the object where there is light, the global factor taken out."""
    lit = case.lit(prepared)
    found, true = canvas[lit], case.truth[lit]
    factor = np.vdot(found, true) / np.vdot(found, found)
    return float(np.linalg.norm(factor * found - true) / np.linalg.norm(true))


def test_the_true_detector_predicts_the_counts_to_the_last_digit() -> None:
    """Everywhere that predicts: residuals, the gauge of the counts, a part of the scan, and the engine itself."""
    case, factors = Case(1e5), beam(81)
    prepared = known(measured(case, background=3 * HALO, intensity=factors, noise=False), 3 * HALO, factors)
    assert residuals(prepared, case.truth).overall < 1e-10
    assert residuals(prepared.part(np.array([3, 40])), case.truth).overall < 1e-10
    assert count_gauge(prepared, case.truth) == pytest.approx(1, abs=1e-4)
    assert count_gauge(prepared, 0.98 * case.truth) == pytest.approx(1 / 0.98, abs=1e-4)
    found = refine(prepared, case.truth, RefineOptions(2, wavefront=True, refine_probe=True, probe_from_pass=1))
    assert found.residuals[0] < 1e-10 and error(case, prepared, found.canvas) < 1e-4
    assert found.background is prepared.background and found.intensity is prepared.intensity


def test_scores_and_information_are_derivatives_of_the_likelihood() -> None:
    case = Case(1e5, noise=True, bad=np.arange(N * N).reshape(N, N) % 7 == 0)
    prepared = known(case.prepared(), 0.4, beam(81))
    index = np.array([5, 33])
    patches = gather_patches(case.truth, prepared.layout.corners[index], N)
    light = diffract(prepared.probe.astype(np.complex128), patches, prepared.layout.fractions[index])
    counts = prepared.counts(index).astype(np.float64)
    sums = DetectorSums.empty(prepared, with_pixels=True)
    sums.add(sums.measure(prepared, index, counts, prepared.detect(light, index), prepared.good))

    assert prepared.intensity is not None and prepared.background is not None
    factors, background = prepared.intensity[index][:, None, None], prepared.background

    def likelihood(brighter: float, more: float) -> Image:
        """Of each pixel, with e added to both sides as the score has it."""
        scaled = light * factors * np.exp(brighter) + background + more + 0.1
        return np.asarray((counts + 0.1) * np.log(scaled) - scaled)

    def slope(step: float = 1e-5, *, of_background: bool) -> Image:
        sides = [(0.0, sign * step) if of_background else (sign * step, 0.0) for sign in (1, -1)]
        return np.asarray((likelihood(*sides[0]) - likelihood(*sides[1])) / (2 * step))

    assert sums.pixel_score == pytest.approx(slope(of_background=True).sum(axis=0), rel=1e-4, abs=1e-4)
    of_patterns = (slope(of_background=False) * prepared.good).sum(axis=(1, 2))
    assert sums.pattern_score[index] == pytest.approx(of_patterns, rel=1e-3)
    assert not sums.pattern_score[7] and not sums.pattern_information[7]


def test_one_step_finds_a_smooth_background_of_exact_patterns() -> None:
    case = Case(1e4)
    prepared = measured(case, background=2 * HALO, noise=False)
    sums, index = DetectorSums.empty(prepared, with_pixels=True), np.arange(len(prepared))
    patches = gather_patches(case.truth, prepared.layout.corners, N)
    light = diffract(prepared.probe, patches, prepared.layout.fractions)
    sums.add(sums.measure(prepared, index, prepared.counts(index), light, None))
    found = step_background(prepared, sums)
    assert np.abs(found - 2 * HALO).max() < 0.3 and np.abs(found - 2 * HALO).mean() < 0.04
    assert background_share(replace(prepared, background=found)) == pytest.approx(
        2 * HALO.sum() * 81 / prepared.counts(index).sum(), rel=0.05
    )


def test_hats_add_up_to_one_and_no_coefficient_is_negative() -> None:
    assert radial_hats(N).sum(axis=0) == pytest.approx(1)
    matrix = np.array([[2.0, 1.0], [1.0, 3.0]])
    assert solve_nonnegative(matrix, np.array([3.0, 4.0])) == pytest.approx([1, 1])
    assert solve_nonnegative(matrix, np.array([3.0, -4.0])) == pytest.approx([1.5, 0])


def test_a_background_is_suspected_where_dark_pixels_do_not_vary_as_speckle() -> None:
    case = Case(1e5, side=12)
    assert suspected_background(measured(case)) is None
    for counts in (0.5, 3.0):
        found = suspected_background(measured(case, background=counts))
        assert found is not None and found[0, 0] == found[5, 9] == pytest.approx(counts, rel=0.15)


def test_the_step_of_a_factor_is_exact_and_noise_draws_it_to_one() -> None:
    case, factors = Case(1e5), beam(81, 0.05)
    prepared = measured(case, intensity=factors, noise=False)
    sums, index = DetectorSums.empty(prepared, with_pixels=False), np.arange(len(prepared))
    patches = gather_patches(case.truth, prepared.layout.corners, N)
    light = diffract(prepared.probe, patches, prepared.layout.fractions)
    sums.add(sums.measure(prepared, index, prepared.counts(index), light, None))
    found = step_intensity(prepared, sums)
    assert found.mean() == pytest.approx(1, abs=1e-6)
    assert np.corrcoef(found, factors[prepared.order])[0, 1] > 0.999
    deviation, noise = intensity_deviation(prepared, sums)
    assert noise == pytest.approx(light.sum(axis=(1, 2)) ** -0.5, rel=1e-3)
    faint = replace(sums, pattern_information=sums.pattern_information / 1e4, pattern_score=sums.pattern_score / 1e4)
    assert np.abs(intensity_deviation(prepared, faint)[0] - deviation).max() < 1e-9
    assert (step_intensity(prepared, faint) == 1).all()


def test_slopes_of_the_amplitude_do_not_depend_on_the_power_of_the_beam() -> None:
    """An object that lacks a slope of its amplitude: each pattern says so, whatever its own factor is."""
    case = Case(1e6)
    rows = np.arange(case.truth.shape[0])[:, None]
    lacking = (case.truth * np.exp(-0.002 * (rows - rows.mean()))).astype(np.complex64)
    for factors in (np.ones(81), beam(81)):
        prepared = measured(case, intensity=factors, noise=False)
        found = amplitude_slopes(prepared, lacking, prepared.probe)
        slope = np.linalg.solve(found.curvature.sum(axis=0), found.gradient.sum(axis=0))
        assert slope == pytest.approx([0.002, 0], abs=2e-4)
        image = long_range_amplitude(prepared, lacking, prepared.probe, illumination(prepared.layout, prepared.probe))
        at = sample_at_patterns(prepared, (0.002 * rows + 0 * image.image).astype(np.float32), prepared.probe)
        assert np.std(image.at_patterns - at) < 0.1 * np.std(at)


@pytest.mark.parametrize(
    ('background', 'mean'),
    [(0.5, 0.5), (4.0, 4.0), (6 * HALO, float(6 * HALO.mean()))],
    ids=['faint', 'bright', 'halo'],
)
def test_the_engine_finds_a_background_with_the_object(background: Any, mean: float) -> None:
    case = Case(2e4, side=12)
    prepared = measured(case, background=background)
    options = RefineOptions.for_scan(12)
    ignored = refine(prepared, empty(prepared), replace(options, background='off', intensity='off'))
    found = refine(prepared, empty(prepared), options)
    assert found.background is not None and found.background.mean() == pytest.approx(mean, rel=0.15)
    assert error(case, prepared, found.canvas) < 0.6 * error(case, prepared, ignored.canvas)
    assert ignored.background is None


def test_the_engine_tells_a_flickering_beam_from_an_absorbing_object() -> None:
    case, factors = Case(1e5, side=12), beam(144, 0.15)
    prepared = measured(case, intensity=factors)
    options = RefineOptions.for_scan(16)
    ignored = refine(prepared, empty(prepared), replace(options, background='off', intensity='off'))
    found = refine(prepared, empty(prepared), options)
    assert found.background is None and found.intensity is not None
    assert np.std(found.intensity / factors[prepared.order]) < 0.25 * np.std(factors)
    assert error(case, prepared, found.canvas) < 0.7 * error(case, prepared, ignored.canvas)


def test_the_engine_tells_a_beam_that_decays_from_a_denser_object() -> None:
    case, factors = Case(1e6, side=12), np.linspace(1.15, 0.85, 144)
    prepared = measured(case, intensity=factors)
    found = refine(prepared, empty(prepared), RefineOptions.for_scan(16))
    assert found.intensity is not None
    assert np.polyfit(factors[prepared.order], found.intensity, 1)[0] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize('photons', [1e3, 1e5, 1e6])
def test_nothing_is_found_in_clean_patterns(photons: float) -> None:
    prepared = Case(photons, side=12, noise=True).prepared()
    found = refine(prepared, empty(prepared), RefineOptions.for_scan(12))
    assert found.background is None and found.intensity is None


def test_a_probe_taken_from_the_counts_keeps_the_power_that_the_background_leaves() -> None:
    case = Case(2e4, side=12)
    prepared = measured(case, background=6 * HALO)
    probe = prepared.probe * np.sqrt(prepared.scan.mean_counts / 2e4).astype(np.float32)
    prepared = replace(prepared, gauge=prepared.gauge._replace(probe=probe, choice='from_counts'))
    found = refine(prepared, empty(prepared), RefineOptions.for_scan(12))
    light = prepared.scan.mean_counts - 6 * HALO.sum()
    assert (np.abs(found.probe) ** 2).sum() == pytest.approx(light, rel=0.05)


def test_a_beam_is_looked_for_anew_where_the_probe_was_wrong() -> None:
    """What was taken for a beam is forgotten, the background is not; a beam that the user knows to vary stays."""
    case = Case(1e5)
    prepared = known(measured(case), HALO, np.linspace(0.8, 1.2, len(case.counts)))
    cases: tuple[tuple[Switch, bool], ...] = (('auto', True), ('on', False))
    for asked, forgotten in cases:
        engine = Engine(prepared, empty(prepared), prepared.probe, FarFieldStep.for_scan(prepared))
        fit = DetectorFit.for_engine(engine, 'on', asked, 8)
        fit.varies, fit.scatters = True, [0.2, 0.19]
        fit.forget_beam()
        assert (engine.prepared.intensity is None) == forgotten and fit.varies != forgotten
        assert engine.prepared.background is prepared.background and bool(fit.scatters) != forgotten
