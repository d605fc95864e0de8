"""The long-range phase from the slopes of the patterns: exact slopes, known wavefronts, noise, stops, measured data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_cases import Case, N, make_probe
from numpy.typing import NDArray

from ptychopinn_reconstructor.io import read_object, read_scan
from ptychopinn_reconstructor.physics.arrays import NumpyArrays
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.sloped_waves import Slopes, slopes
from ptychopinn_reconstructor.physics.engine.splines import Splines
from ptychopinn_reconstructor.physics.engine.wavefront import correct_long_range_phase, long_range_phase
from ptychopinn_reconstructor.physics.forward import diffract
from ptychopinn_reconstructor.physics.geometry import gather_patches
from ptychopinn_reconstructor.physics.illumination import illumination
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.scoring.metrics import compare

Image = NDArray[np.float64]


def wave(shape: tuple[int, int], radians: float = 0.3) -> Image:
    """A phase that varies over the whole canvas."""
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(radians * np.cos(2 * np.pi * rows / shape[0]) * np.sin(2 * np.pi * cols / shape[1] + 0.5))


def lacking(case: Case, phase: Image) -> NDArray[np.complex64]:
    return np.asarray(case.truth * np.exp(-1j * phase), dtype=np.complex64)


def phase_error(case: Case, prepared: PreparedScan, canvas: NDArray[np.complex64]) -> float:
    """Root mean square of the phase error in radians where there is light, the global phase taken out."""
    ratio = (canvas * case.truth.conj())[case.lit(prepared)]
    return float(np.angle(ratio * np.exp(-1j * np.angle(ratio.sum()))).std())


@pytest.mark.parametrize('modes', [1, 2])
def test_gradient_and_curvature_are_derivatives_of_the_amplitude(modes: int) -> None:
    """Against finite differences of the predicted amplitude of an object that gets a ramp."""
    case = Case(modes=modes, noise=True, bad=np.arange(N * N).reshape(N, N) % 97 == 0)
    prepared = case.prepared()
    index, step = np.array([3, 40]), 1e-5
    found = slopes(prepared, case.truth, prepared.probe)
    corners, fractions = prepared.layout.corners[index], prepared.layout.fractions[index]
    rows, cols = np.indices(case.truth.shape)

    def amplitude(slope: tuple[float, float]) -> Image:
        turned = case.truth.astype(np.complex128) * np.exp(1j * (slope[0] * rows + slope[1] * cols))
        patches = gather_patches(turned, corners, N)
        return np.asarray(np.sqrt(diffract(prepared.probe.astype(np.complex128), patches, fractions) + 3 / 8))

    excess = np.sqrt(prepared.counts(index) + 3 / 8) - amplitude((0, 0))
    j = [(amplitude((step * (a == 0), step * (a == 1))) - amplitude((0, 0))) / step * prepared.good for a in (0, 1)]
    gradient = np.stack([(part * excess).sum(axis=(1, 2)) for part in j], axis=1)
    curvature = np.array([[[(a[k] * b[k]).sum() for b in j] for a in j] for k in (0, 1)])
    assert found.curvature[index] == pytest.approx(curvature, rel=1e-3)
    assert found.gradient[index] == pytest.approx(gradient, rel=1e-3, abs=1e-3 * np.abs(gradient).max())


def test_splines_see_the_slope_that_they_have() -> None:
    """A plane is a sum of splines: each pattern, whatever its probe, sees its slope and nothing else."""
    case = Case()
    prepared = case.prepared()
    splines = Splines(prepared.layout, prepared.probe)
    rows, cols = np.indices(case.truth.shape)
    plane = 0.02 * rows - 0.05 * cols
    units: Image = np.eye(splines.axes[0].shape[1] * splines.axes[1].shape[1])
    basis = np.stack([splines.image(unit).ravel() for unit in units])
    weights = np.linalg.lstsq(basis.T, plane.ravel(), rcond=None)[0]
    assert splines.image(weights) == pytest.approx(plane, abs=1e-9)
    rng = np.random.default_rng(0)
    h = rng.normal(size=(len(prepared), 2, 2))
    found = Slopes(rng.normal(size=(len(prepared), 2)), h @ h.transpose(0, 2, 1))
    index = np.arange(len(prepared))
    matrix, right = splines.normal(found.gradient[:, None], found.curvature[:, None, :, None], index)
    slope = np.array([0.02, -0.05])
    assert weights @ right == pytest.approx(float((found.gradient @ slope).sum()), rel=1e-6)
    assert weights @ (matrix @ weights) == pytest.approx(float((found.curvature @ slope @ slope).sum()), rel=1e-6)
    assert weights @ (splines.prior(1.0, 1.0) @ weights) < 1e-6 * (weights @ weights)  # a plane does not bend


@pytest.mark.parametrize('modes', [1, 2])
def test_a_known_wavefront_is_found(modes: int) -> None:
    """One step takes out most of it, since splines are only nearly as smooth as their slopes; two nearly all."""
    case = Case(modes=modes, side=16)
    prepared = case.prepared()
    canvas = lacking(case, wave(case.truth.shape))
    errors = [phase_error(case, prepared, canvas)]
    for _ in range(2):
        canvas = correct_long_range_phase(prepared, canvas)
        errors.append(phase_error(case, prepared, canvas))
    assert errors[0] > 0.1 and errors[1] < 0.25 * errors[0] and errors[2] < 0.06 * errors[0]
    lit = case.lit(prepared)
    assert np.abs(canvas)[lit] == pytest.approx(np.abs(case.truth)[lit], abs=0.01)  # the phase alone


def test_a_slope_that_all_patterns_share_is_found() -> None:
    case = Case()
    prepared = case.prepared()
    rows, cols = np.indices(case.truth.shape)
    plane = np.asarray(0.02 * rows - 0.01 * cols)
    found = long_range_phase(prepared.layout, slopes(prepared, lacking(case, plane), prepared.probe), prepared.probe)
    fit = np.linalg.lstsq(np.stack([rows.ravel(), cols.ravel(), np.ones(rows.size)], axis=1), found.ravel(), rcond=None)
    assert fit[0][:2] == pytest.approx([0.02, -0.01], rel=0.1)  # one Gauss-Newton step


def test_the_truth_stays_as_it_is() -> None:
    case = Case()
    prepared = case.prepared()
    assert np.abs(correct_long_range_phase(prepared, case.truth) - case.truth).max() < 1e-5


def test_noise_is_not_taken_for_a_wavefront() -> None:
    """At 300 photons a pattern, what the halves of the true object's patterns agree on is less than its noise."""
    case = Case(300, noise=True)
    prepared = case.prepared()
    found = slopes(prepared, case.truth, prepared.probe)
    splines = Splines(prepared.layout, prepared.probe)
    matrix, right = splines.normal(found.gradient[:, None], found.curvature[:, None, :, None], np.arange(len(prepared)))
    prior = splines.prior(1e-4, matrix.diagonal().mean())
    taken = splines.image(np.linalg.solve((matrix + prior).toarray(), right))
    agreed: Image = long_range_phase(prepared.layout, found, prepared.probe).astype(np.float64)
    errors = [phase_error(case, prepared, lacking(case, -phase)) for phase in (taken, agreed)]
    assert errors[1] < 0.6 * errors[0]


def test_noise_makes_the_wavefront_as_small_as_it_must_be() -> None:
    """Of drawn phases and noise: no factor makes the error smaller than the share that two halves support does."""
    case = Case(side=16)
    layout = case.prepared().layout
    weight = (np.abs(case.probe) ** 2).sum(axis=0, dtype=np.float64)
    x = np.arange(N) - np.arange(N) @ weight.sum(axis=1) / weight.sum()
    y = np.arange(N) - np.arange(N) @ weight.sum(axis=0) / weight.sum()
    arms = [weight * x[:, None] / (weight * x[:, None] ** 2).sum(), weight * y / (weight * y**2).sum()]
    frequency = np.hypot(*np.ix_(*map(np.fft.fftfreq, layout.shape))) * layout.shape[0]

    def slopes_of(phase: Image) -> Image:
        patches = gather_patches(phase, layout.corners, N)
        seen = np.stack([(patches * arm).sum(axis=(1, 2)) for arm in arms], axis=1)
        return np.asarray(seen - seen.mean(axis=0))  # without the plane, which is taken as it is

    common = power = 0.0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        spectrum = np.fft.fft2(rng.normal(size=layout.shape)) * np.exp(-((frequency / 6) ** 2))
        true, noise = slopes_of(np.fft.ifft2(spectrum).real), rng.normal(size=(len(layout.corners), 2))
        measured = true / true.std() + 2 * (noise - noise.mean(axis=0))
        information = np.broadcast_to(np.eye(2), (len(true), 2, 2))
        found = slopes_of(long_range_phase(layout, Slopes(measured, information), case.probe).astype(np.float64))
        common, power = common + float((found * true).sum() / true.std()), power + float((found**2).sum())
    assert common / power == pytest.approx(1.0, abs=0.15)  # that factor


def test_what_is_not_known_stays_empty() -> None:
    case = Case()
    prepared = case.prepared()
    light = illumination(prepared.layout, prepared.probe)
    start = lacking(case, wave(case.truth.shape))
    light[:20], start[:20] = 0, 1
    found = correct_long_range_phase(prepared, start, light=light)
    assert np.abs(found[:20] - 1).max() < 1e-6 and np.abs(found[30:-20] - start[30:-20]).mean() > 0.05


def test_order_origin_and_global_phase_change_nothing() -> None:
    case = Case(1e5, noise=True)
    prepared = case.prepared()
    start = lacking(case, wave(case.truth.shape))
    expected = correct_long_range_phase(prepared, start)
    shuffled = np.random.default_rng(1).permutation(len(prepared))
    other = case.prepared(diffraction=case.counts[shuffled], positions=case.positions[shuffled] + 1000)
    assert np.abs(correct_long_range_phase(other, start) - expected).max() < 1e-4
    turned = correct_long_range_phase(prepared, start * np.exp(0.7j).astype(np.complex64)) * np.exp(-0.7j)
    lit = case.lit(prepared)
    assert np.abs(turned - expected)[lit].max() < 1e-3


def test_a_few_patterns_are_no_wavefront() -> None:
    case = Case()
    prepared = case.prepared().part(np.arange(15))
    start = lacking(case, wave(case.truth.shape))
    assert correct_long_range_phase(prepared, start) is start


def test_patterns_without_counts_say_nothing() -> None:
    case = Case()
    prepared = case.prepared()
    nothing = Slopes(np.zeros((len(prepared), 2)), np.zeros((len(prepared), 2, 2)))
    assert not long_range_phase(prepared.layout, nothing, prepared.probe).any()


def test_it_can_be_stopped_and_says_how_far_it_is() -> None:
    case = Case(side=16)
    heard: list[int] = []

    def after_block(done: int) -> None:
        heard.append(done)
        if done > 100:
            raise InterruptedError

    arrays = NumpyArrays()
    arrays.block_pixels = 64 * 32**2
    with pytest.raises(InterruptedError):
        correct_long_range_phase(case.prepared(), case.truth, arrays=arrays, after_block=after_block)
    assert heard[0] < heard[-1] and heard == sorted(heard)


@pytest.mark.slow
def test_after_the_passes_it_brings_decibels(shared_data: Path) -> None:
    """A, an object whose long-range phase is off by 0.2 rad, 2 passes: 10 dB of phase, and nothing is lost."""
    path = shared_data / 'simulated_A.npz'
    prepared, truth = prepare_scan(read_scan(path).scan), read_object(path)
    aligned = refine(prepared, np.ones(prepared.layout.shape, np.complex64), RefineOptions.for_scan(10)).canvas
    start = (aligned * np.exp(1j * wave(aligned.shape, 0.4))).astype(np.complex64)
    plain, solved = (
        compare(
            refine(prepared, start, RefineOptions.for_scan(2, wavefront=asked)).canvas,
            prepared.layout.origin,
            truth.object,
            truth.origin,
            prepared.scan.positions,
            margin=4,
        )
        for asked in (False, True)
    )
    assert solved.phase_psnr > plain.phase_psnr + 8 and solved.phase_psnr > 33
    assert solved.amplitude_psnr > plain.amplitude_psnr - 0.15  # what is not spent on the phase goes into details
    assert solved.frc.area > plain.frc.area - 1e-3


def test_a_probe_that_is_a_point_asks_for_no_more_splines_than_it_can_carry() -> None:
    case = Case()
    point = np.zeros_like(make_probe(1e5))
    point[0, N // 2, N // 2] = 1
    assert Splines(case.prepared().layout, point).axes[0].shape[1] <= case.truth.shape[0] / (N / 8) + 4
