"""The prior of the refinement: exact minima, its strength by the dose, and what it brings where light is scarce."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptychopinn_reconstructor.config import RefinementConfig
from ptychopinn_reconstructor.physics.engine.background import background_share
from ptychopinn_reconstructor.physics.engine.prior import EDGE_COUNTS, Smoothness, hidden_strength, mean_dose
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.illumination import illumination
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.refinement import refinement_options


def threshold(value: float, shape: tuple[int, int]) -> Smoothness:
    return Smoothness(np.full(shape, value, np.float32))


@pytest.mark.parametrize('edge', [0.5, 0.5j, 0.3 - 0.4j])
def test_both_sides_of_a_step_move_towards_each_other(edge: complex) -> None:
    """Two halves of n columns that differ by h: the minimum lowers h by 2 t / n, at once in both parts."""
    n, t = 3, 0.06
    image = np.full((4, 2 * n), 0.8, np.complex64)
    image[:, n:] += edge
    found = threshold(t, image.shape)(image)
    moved = t / n * edge / abs(edge)
    assert np.abs(found[:, :n] - (image[:, :n] + moved)).max() < 2e-3 * t
    assert np.abs(found[:, n:] - (image[:, n:] - moved)).max() < 2e-3 * t


def test_noise_is_averaged_and_an_edge_is_kept() -> None:
    rng = np.random.default_rng(0)
    clean = np.where(np.arange(64) < 32, 0.6, 1.0)[None] * np.ones((64, 1))
    noisy = (clean + 0.05 * (rng.normal(size=(64, 64)) + 1j * rng.normal(size=(64, 64)))).astype(np.complex64)
    found = threshold(0.08, noisy.shape)(noisy)
    assert np.std(found - clean) < 0.4 * np.std(noisy - clean)
    assert (found[:, 33].real - found[:, 30].real).mean() > 0.36
    assert found.mean() == pytest.approx(noisy.mean(), abs=1e-5)


def test_an_exception_leaves_the_image_alone() -> None:
    image = np.eye(8, dtype=np.complex64)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threshold(0.1, image.shape)(image, stop)
    assert np.array_equal(image, np.eye(8))


def test_the_threshold_follows_the_counts_and_is_bounded_at_the_rim() -> None:
    illumination = np.zeros((20, 20), np.float32)
    illumination[5:15, 5:15] = 40.0
    assert mean_dose(illumination) == pytest.approx(40.0)
    found = Smoothness.for_dose(illumination, 2.0).threshold
    assert found[10, 10] == pytest.approx(2 * EDGE_COUNTS / 160)
    assert found[0, 0] == pytest.approx(10 * found[10, 10])
    assert Smoothness.for_dose(100 * illumination, 2.0).threshold == pytest.approx(found / 100)


@pytest.fixture(scope='module', params=[1e3, 1e4])
def scarce(request: pytest.FixtureRequest) -> float:
    photons: float = request.param
    return photons


def test_where_light_is_scarce_the_prior_brings_amplitude_and_costs_hardly_any_phase(scarce: float) -> None:
    """From an object like a network's: right but smooth. 169 patterns, the engine without prior beside it."""
    scan = simulate(n=32, positions=169, step=4.0, photons=scarce / 4, jitter=1.0, seed=2)
    prepared = prepare_scan(scan)
    assert scan.object is not None
    start = np.ones(prepared.layout.shape, np.complex64)
    options = refinement_options(RefinementConfig(passes=10), prepared, start='network')
    scores = []
    for prior in (0.0, options.prior):
        canvas = refine(prepared, start, replace(options, prior=prior)).canvas
        scores.append(compare(canvas, prepared.layout.origin, scan.object, scan.object_origin, scan.positions))
    assert scores[1].amplitude_psnr > scores[0].amplitude_psnr + 1.5
    assert scores[1].phase_psnr > scores[0].phase_psnr - 0.5
    assert 0.98 < scores[1].amplitude_ratio < 1.02


def test_where_there_is_light_the_prior_changes_nothing_to_see() -> None:
    scan = simulate(n=32, positions=100, step=4.0, photons=1e7, jitter=1.0)
    prepared = prepare_scan(scan)
    start = np.ones(prepared.layout.shape, np.complex64)
    options = refinement_options(RefinementConfig(), prepared, start='network')
    assert options.passes == 5
    with_prior, without = (refine(prepared, start, replace(options, prior=p)).canvas for p in (1.0, 0.0))
    assert 0 < np.abs(with_prior - without)[20:-20, 20:-20].max() < 1e-3


def test_strength_multiplies_the_threshold() -> None:
    noise = np.random.default_rng(1).normal(size=(2, 24, 24))
    image = (1 + 0.1 * (noise[0] + 1j * noise[1])).astype(np.complex64)
    assert np.array_equal(threshold(0.03, image.shape)(image, strength=2.0), threshold(0.06, image.shape)(image))
    assert hidden_strength(0.0) == 1.0 and hidden_strength(625.0) == pytest.approx(3.5)


def test_beside_a_background_the_prior_is_stronger() -> None:
    """A fifth of the counts is background: 2 dB of amplitude, and no phase lost, by the prior's growth alone."""
    scan = simulate(n=32, positions=196, step=4.0, photons=1e5, jitter=1.0, object='cells', seed=2)
    assert scan.object is not None
    hidden = np.random.default_rng(0).poisson(20.0, scan.diffraction.shape)
    prepared = prepare_scan(replace(scan, diffraction=np.asarray(scan.diffraction) + hidden))
    prepared = replace(prepared, background=np.full((32, 32), 20, dtype=np.float32))
    start = np.ones(prepared.layout.shape, np.complex64)
    options = refinement_options(RefinementConfig(passes=12, background='off'), prepared, start='empty')
    growth = hidden_strength(background_share(prepared) * mean_dose(illumination(prepared.layout, prepared.probe)))
    assert growth > 2
    scores = []
    for prior in (options.prior / growth, options.prior):
        canvas = refine(prepared, start, replace(options, prior=prior)).canvas
        scores.append(compare(canvas, prepared.layout.origin, scan.object, scan.object_origin, scan.positions))
    assert scores[1].amplitude_psnr > scores[0].amplitude_psnr + 2
    assert scores[1].phase_psnr > scores[0].phase_psnr
