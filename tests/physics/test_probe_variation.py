"""A probe that varies along the scan: its components, its power, and the engine that finds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine, scan_dose
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.update import Engine
from ptychopinn_reconstructor.physics.engine.variation_search import COMPARED, settle_variation, slow_components
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.probe_variation import ProbeVariation, decompose_probes, remove_untold
from ptychopinn_reconstructor.physics.probes import make_probe
from ptychopinn_reconstructor.physics.scoring.metrics import Comparison, compare
from ptychopinn_reconstructor.physics.simulation.simulate import expected_counts, simulate
from ptychopinn_reconstructor.scan import Scan

N = 32


def drawn(*shape: int, seed: int = 0) -> NDArray[np.complex64]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def inner(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.vdot(one, other).real)


def test_probes_are_their_mean_and_what_varies() -> None:
    """All components give the probes back; they are orthogonal, their weights have mean 0 and mean square 1."""
    probes = drawn(5, N, N)
    mean, found = decompose_probes(probes, 5)
    assert found.components.shape == (4, N, N)  # of five, one is the mean
    whole = mean + np.tensordot(found.weights, found.components, axes=1)
    np.testing.assert_allclose(whole, probes, atol=1e-4)
    np.testing.assert_allclose(found.weights.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.weights.T @ found.weights / 5, np.eye(4), atol=1e-9)
    flat = np.concatenate([found.components.real, found.components.imag], axis=1).reshape(4, -1)
    between = flat @ flat.T
    np.testing.assert_allclose(between, np.diag(between.diagonal()), atol=1e-3 * between.max())
    assert (np.diff(between.diagonal()) <= 0).all()


def test_components_with_weights_are_the_same_variation_in_order() -> None:
    """What they vary about goes to the mean, and no component is lost that others could not tell."""
    rng = np.random.default_rng(1)
    components, weights = drawn(3, N, N), rng.normal([1.0, 0.0, -2.0], size=(40, 3))
    mean, found = decompose_probes(components, 3, weights)
    before = np.tensordot(weights, components, axes=1)
    np.testing.assert_allclose(mean + np.tensordot(found.weights, found.components, axes=1), before, atol=1e-3)
    assert decompose_probes(components, 1, weights)[1].components.shape == (1, N, N)
    assert decompose_probes(components, 3, np.ones((40, 3)))[1].components.shape == (0, N, N)


def test_the_power_of_the_first_mode_is_held_and_the_others_stay() -> None:
    """Whatever the weights, for parts of the scan as for the whole."""
    probe, rng = drawn(2, N, N), np.random.default_rng(2)
    found = ProbeVariation(0.2 * drawn(2, N, N, seed=3), rng.normal(size=(30, 2)))
    probes = found.probes(probe, np.arange(30))
    power = (np.abs(probes[:, 0]) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(power, power[0], rtol=1e-4)
    np.testing.assert_array_equal(probes[:, 1], np.repeat(probe[None, 1], 30, axis=0))
    sizes = (np.abs(found.components) ** 2).sum(axis=(1, 2)) * (found.weights**2).mean(axis=0)
    assert power[0] == pytest.approx(float((np.abs(probe[0]) ** 2).sum() + sizes.sum()), rel=1e-4)


def centers(probe: NDArray[Any]) -> list[float]:
    """Of a probe (N, N): [row, column] where it is, and of its far field."""
    light, far = np.abs(probe) ** 2, np.abs(np.fft.fftshift(np.fft.fft2(probe))) ** 2
    return [float(part.sum(axis=1 - axis) @ np.arange(N) / part.sum()) for part in (light, far) for axis in (0, 1)]


def test_nothing_is_left_of_what_object_and_positions_do() -> None:
    """Of power, phase, slope and shift nothing; what is left moves neither the probe nor its far field."""
    first = make_probe('defocused', N, photons=1e3)[0].astype(np.complex64)
    x = np.arange(N) - (N - 1) / 2
    untold = np.stack([2 * first, -1j * first, 1j * x * first, np.gradient(first)[0]]).astype(np.complex64)
    assert np.abs(remove_untold(untold, first)).max() < 1e-3 * np.abs(first).max()
    smooth = (drawn(2, 1, 1) * np.roll(first, 2, axis=-1) * (x[:, None] - x)).astype(np.complex64)
    smooth *= np.float32(0.02 * np.linalg.norm(first) / np.linalg.norm(smooth))
    told = remove_untold(smooth, first)
    np.testing.assert_allclose(remove_untold(told, first), told, atol=1e-4 * np.abs(told).max())
    for before, after in zip(smooth, told, strict=True):
        assert abs(inner(after, first)) < 1e-4 * np.linalg.norm(after) * np.linalg.norm(first)
        moved, held = (np.abs(np.subtract(centers(first + part), centers(first))).max() for part in (before, after))
        assert held < 0.02 and held < moved / 3


def test_a_drift_is_in_the_slow_components() -> None:
    """In the order of acquisition, whatever the order of the patterns: a line is half in the first cosine and more."""
    rng = np.random.default_rng(4)
    order, shape = rng.permutation(200), drawn(N, N)
    lacking = (order / 199 - 0.5)[:, None, None] * shape + 0.3 * drawn(200, N, N, seed=5)
    power = (np.abs(slow_components(lacking.astype(np.complex64), order)) ** 2).sum(axis=(1, 2))
    assert power.shape == (COMPARED,) and power[0] > 10 * power[3:].max()


def drifting(share: float = 0.7) -> Scan:
    """A scan whose probe's defocus, 52, changes by a share of it; the probe given is that of its middle."""
    scan = simulate(n=64, positions=196, step=7.0, photons=1e5, object='cells', probe='defocused', seed=4)
    assert scan.probe is not None and scan.object is not None
    q2 = np.add.outer(*[((np.arange(64) - 32) / 64) ** 2] * 2)
    pupil = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(scan.probe, (-2, -1))), (-2, -1))
    patterns = np.empty(scan.diffraction.shape)
    for part in np.array_split(np.arange(196), 28):
        turned = pupil * np.exp(1j * np.pi * 52 * share * (part.mean() / 195 - 0.5) * q2)
        there = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(turned, (-2, -1))), (-2, -1))
        patterns[part] = np.concatenate(list(expected_counts(np.asarray(scan.object), there, scan.positions[part])))
    return replace(scan, diffraction=np.random.default_rng(0).poisson(patterns).astype(np.uint16))


def refined(scan: Scan, modes: int | None, passes: int = 12) -> tuple[Refined, Comparison]:
    prepared = prepare_scan(replace(scan, object=None))
    options = RefineOptions.for_scan(passes, dose=scan_dose(prepared), modes=modes)
    found = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options)
    assert scan.object is not None
    return found, compare(
        found.canvas, prepared.layout.origin, scan.object, scan.object_origin, scan.positions, margin=4
    )


def test_a_probe_that_drifts_is_followed() -> None:
    """Object and misfit gain; the weight of the strongest component follows the drift; `modes` 0 forbids it."""
    scan = drifting()
    held, before = refined(scan, 0)
    found, after = refined(scan, None)
    assert held.variation is None and found.variation is not None
    assert after.amplitude_psnr > before.amplitude_psnr + 4 and after.phase_psnr > before.phase_psnr - 0.5
    order = prepare_scan(scan).order
    assert abs(np.corrcoef(found.variation.weights[:, 0], order)[0, 1]) > 0.9
    prepared = prepare_scan(replace(scan, object=None))
    left = residuals(replace(prepared, variation=found.variation), found.canvas, found.probe).overall
    assert left < 0.9 * residuals(prepared, found.canvas, found.probe).overall


def test_the_engine_predicts_what_the_scan_says_its_probes_are() -> None:
    """Misfit of a step and residual agree; what varies about another mean moves to the probe, and predicts the same."""
    scan = simulate(n=64, positions=64, step=8.0, photons=1e5, object='cells', probe='airy', seed=1)
    prepared = prepare_scan(replace(scan, object=None))
    rng = np.random.default_rng(0)
    parts = remove_untold(np.roll(prepared.probe, 4, axis=-1) * np.float32(0.7), prepared.probe[0])
    varied = replace(prepared, variation=ProbeVariation(parts, rng.normal(size=(64, 1))))
    canvas = np.exp(0.01j * rng.normal(size=prepared.layout.shape)).astype(np.complex64)
    probe = prepared.probe
    engine = Engine(varied, canvas, probe, FarFieldStep.for_scan(varied))
    expected = residuals(varied, canvas, engine.probe).overall
    assert engine.measure_misfit(np.arange(64)) == pytest.approx(expected, rel=1e-3)
    assert expected != pytest.approx(residuals(prepared, canvas, probe).overall, rel=1e-2)
    settle_variation(engine)
    assert engine.measure_misfit(np.arange(64)) == pytest.approx(expected, rel=1e-2)
    assert engine.prepared.variation is not None
    np.testing.assert_allclose(engine.prepared.variation.weights.mean(axis=0), 0, atol=1e-9)
