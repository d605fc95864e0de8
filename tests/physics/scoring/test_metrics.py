"""Image metrics: analytic values, what is removed and what is not, the reference figures on the shared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage

from ptychopinn_reconstructor.errors import InputError
from ptychopinn_reconstructor.physics.residual import Residual, residual
from ptychopinn_reconstructor.physics.scoring.frc import frc, tukey_window
from ptychopinn_reconstructor.physics.scoring.metrics import (
    AMPLITUDE_RANGE,
    LABELS,
    PHASE_RANGE,
    Comparison,
    compare,
    ssim,
)
from ptychopinn_reconstructor.physics.simulation.objects import make_object
from ptychopinn_reconstructor.physics.simulation.simulate import expected_counts

Image = NDArray[np.complex128]
POSITIONS = np.array([[40.0, 40.0], [140.0, 40.0], [40.0, 140.0], [140.0, 140.0]])


def band_limited(seed: int = 0, size: int = 181) -> Image:
    """An object without content near the edge of the band, which no resampling can keep."""
    values = make_object('cells', (size, size), seed).astype(np.complex128)
    return np.asarray(ndimage.gaussian_filter(values.real, 1.2) + 1j * ndimage.gaussian_filter(values.imag, 1.2))


def moved(image: Image, shift: tuple[float, float]) -> Image:
    """`image` moved by +shift pixels, its border mirrored, by an independent Fourier shift of a wide array."""
    wide = np.pad(image, 60, mode='reflect')
    factors = [np.exp(-2j * np.pi * fft.fftfreq(n) * s) for n, s in zip(wide.shape, shift, strict=True)]
    return np.asarray(fft.ifft2(fft.fft2(wide) * factors[0][:, None] * factors[1])[60:-60, 60:-60])


def ramped(image: Image, ramp: tuple[float, float], phase: float = 0.0) -> Image:
    y, x = np.indices(image.shape)
    return np.asarray(image * np.exp(1j * (ramp[0] * y + ramp[1] * x + phase)))


def score(result: NDArray[Any], truth: NDArray[Any], **options: Any) -> Comparison:
    return compare(result, (0.0, 0.0), truth, (0.0, 0.0), POSITIONS, **options)


# --- amplitude and phase ---------------------------------------------------------------------------------------------


def test_a_known_phase_error_gives_the_psnr_worked_out_by_hand() -> None:
    truth = np.ones((181, 181), dtype=np.complex128)
    checker = np.where(np.indices(truth.shape).sum(axis=0) % 2, 0.3, -0.3)
    c = score(truth * np.exp(1j * checker), truth)
    assert c.phase_psnr == pytest.approx(20 * np.log10(2.4 / 0.3), abs=0.01)
    assert c.phase_mae == pytest.approx(0.3, abs=1e-3)
    assert c.phase_psnr_hp == pytest.approx(c.phase_psnr, abs=0.01)
    assert c.amplitude_ratio == pytest.approx(1.0, abs=1e-9)


def test_a_known_amplitude_error_gives_the_psnr_worked_out_by_hand() -> None:
    truth = np.full((181, 181), 0.8 + 0j)
    checker = np.where(np.indices(truth.shape).sum(axis=0) % 2, 0.05, -0.05)
    area = (slice(44, 137),) * 2
    c = score(truth + checker, truth)
    ratio = float((0.8 + checker[area]).mean() / 0.8)
    error = (0.8 + checker[area]) / ratio - 0.8
    assert c.amplitude_ratio == pytest.approx(ratio, abs=1e-9)
    assert c.amplitude_psnr == pytest.approx(20 * np.log10(0.4) - 10 * np.log10(np.mean(error**2)), abs=1e-6)
    assert c.amplitude_mae == pytest.approx(np.abs(error).mean(), abs=1e-9)


def test_the_area_lies_between_the_outermost_centers_less_the_margin() -> None:
    truth = band_limited()
    c = compare(truth, (0, 0), truth, (0, 0), POSITIONS + 0.3, margin=4)
    assert c.area == (slice(45, 137), slice(45, 137))
    assert np.array_equal(c.truth, truth[c.area])
    assert score(truth, truth, margin=8).truth.shape == (85, 85)


def test_errors_outside_the_area_do_not_count() -> None:
    truth = band_limited()
    spoiled = truth.copy()
    spoiled[:40], spoiled[:, 141:] = 5.0, -3.0
    assert score(spoiled, truth).phase_psnr > 100


@pytest.mark.parametrize(
    ('scale', 'phase', 'ramp', 'shift'),
    [
        (0.2, -3.1, (0.1, -0.1), (2.7, -2.7)),
        (5.0, 3.1, (-0.07, 0.02), (-1.3, 0.6)),
        (1.0, 0.4, (0.0, 0.0), (0.25, -0.75)),
    ],
)
def test_shift_ramp_phase_and_amplitude_scale_are_found_and_removed(
    scale: float, phase: float, ramp: tuple[float, float], shift: tuple[float, float]
) -> None:
    truth = band_limited()
    c = score(scale * ramped(moved(truth, shift), ramp, phase), truth)
    assert c.amplitude_ratio == pytest.approx(scale, rel=1e-3)
    assert c.alignment.shift == pytest.approx(shift, abs=0.01)
    assert c.alignment.ramp == pytest.approx(ramp, abs=2e-4)
    assert c.phase_psnr > 45 and c.amplitude_psnr > 40 and c.frc.curve[:20].min() > 0.999


def test_origins_place_the_result_before_any_registration() -> None:
    truth = band_limited()
    far = np.pad(moved(truth, (0.37, -0.21)), ((11, 5), (3, 9)))
    c = compare(far, (11.37, 2.79), truth, (0.0, 0.0), POSITIONS)
    assert np.hypot(*c.alignment.shift) < 0.01
    assert c.phase_psnr > 50
    again = compare(far, (11.37 - 1e4, 2.79), truth, (-1e4, 0.0), POSITIONS + np.array([1e4, 0.0]))
    assert again.phase_psnr == pytest.approx(c.phase_psnr, abs=1e-3)


def test_raw_and_global_phase_errors_keep_what_the_plane_takes_away() -> None:
    truth = band_limited()
    y = np.arange(len(truth))[:, None]
    c = score(truth * np.exp(1j * (0.004 * (y - 90) + 0.5)), truth)
    rows = 0.004 * (np.arange(44, 137) - 90)
    assert c.phase_mae_raw == pytest.approx(np.abs(rows + 0.5).mean(), abs=1e-3)
    assert c.phase_mae_global == pytest.approx(np.abs(rows).mean(), abs=1e-3)
    assert c.phase_mae < 1e-3


def test_high_passed_error_ignores_slow_phase_and_keeps_detail() -> None:
    truth = band_limited()
    y, x = np.indices(truth.shape)
    slow = 0.4 * np.cos(2 * np.pi * (y + x) / 150)
    c = score(truth * np.exp(1j * slow), truth)
    assert c.phase_psnr_hp > c.phase_psnr + 6


def test_phase_beyond_pi_is_scored_modulo_two_pi() -> None:
    truth = band_limited()
    steep = np.abs(truth) * np.exp(6j * np.angle(truth))
    c = score(ramped(moved(steep, (1.3, -0.6)), (0.03, -0.02), 2.0), steep)
    assert c.alignment.shift == pytest.approx((1.3, -0.6), abs=0.02)
    assert c.phase_psnr > 30


def test_a_large_shift_is_refused_with_its_size() -> None:
    truth = band_limited()
    with pytest.raises(InputError, match=r'shifted by 5\.8 pixels'):
        score(moved(truth, (3.0, 5.0)), truth)
    assert score(moved(truth, (2.0, 3.0)), truth).alignment.distance == pytest.approx(np.sqrt(13), abs=0.02)


@pytest.mark.parametrize('seed', range(2))
def test_results_without_structure_are_scored_where_they_lie(seed: int) -> None:
    truth, rng = band_limited(seed), np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=truth.shape), 6)
    for result in (np.ones_like(truth), 1 + 0.1 * rng.normal(size=truth.shape), 1 + 4j * smooth):
        c = score(result, truth)
        assert c.alignment.shift == (0.0, 0.0)
        assert 8 < c.phase_psnr < 18


def test_better_reconstructions_score_better() -> None:
    truth = band_limited()
    blurs = [ndimage.gaussian_filter(truth.real, s) + 1j * ndimage.gaussian_filter(truth.imag, s) for s in (1, 3, 6)]
    scores = [score(b, truth) for b in blurs]
    for name in ('amplitude_psnr', 'amplitude_ssim', 'phase_psnr', 'phase_ssim', 'phase_psnr_hp'):
        values = [getattr(c, name) for c in scores]
        assert values == sorted(values, reverse=True), name
    assert scores[0].frc.area > scores[1].frc.area > scores[2].frc.area


def test_ssim_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip('skimage.metrics')
    truth = np.abs(band_limited())
    image = truth + 0.05 * np.random.default_rng(0).normal(size=truth.shape)
    expected = metrics.structural_similarity(image, truth, data_range=0.4)
    assert ssim(image, truth, 0.4) == pytest.approx(expected, abs=1e-6)
    assert ssim(truth, truth, 0.4) == pytest.approx(1.0)


def test_the_dictionary_holds_every_labeled_figure_as_plain_finite_floats() -> None:
    truth = band_limited()
    values = score(truth, truth).to_dict()
    assert set(LABELS) <= set(values)
    assert all(type(v) is float and np.isfinite(v) for v in values.values())
    assert (values['amplitude_range'], values['phase_range_rad']) == (AMPLITUDE_RANGE, PHASE_RANGE) == (0.4, 2.4)


@pytest.mark.parametrize(
    ('result', 'message'),
    [
        (np.full((181, 181), np.nan), 'NaN'),
        (np.zeros((181, 181)), 'zero everywhere'),
        (np.ones((181,)), r'shape \(181,\)'),
        (np.ones((100, 181)), 'rows 44.0 to 136.0'),
    ],
)
def test_unusable_results_are_refused(result: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(result, band_limited())


def test_an_area_too_small_to_compare_is_refused() -> None:
    truth = band_limited()
    with pytest.raises(InputError, match='0 x 0'):
        score(truth, truth, margin=60)


# --- Fourier ring correlation ----------------------------------------------------------------------------------------


def test_frc_of_an_image_with_itself_is_one_at_every_frequency() -> None:
    image = band_limited()
    curve = frc(image, 2.5 * image + 7)
    assert curve.curve == pytest.approx(np.ones(90), abs=1e-9)
    assert curve.area == pytest.approx(1.0)
    assert (curve.frequency_half, curve.frequency_seventh, curve.frequency_half_bit) == (0.5, 0.5, 0.5)
    assert curve.frequency[0] == pytest.approx(1 / 181) and len(curve.frequency) == 90


def test_the_half_bit_threshold_is_half_a_bit_in_the_whole_of_which_halves_are_compared() -> None:
    """log2(1 + SNR) = 1/2 in the sum of two halves, each with half of that SNR, on a shell of n independent pixels."""
    curve = frc(band_limited(), band_limited())
    k = np.rint(fft.fftfreq(181) * 181)
    shell = np.rint(np.hypot(k[:, None], k)).astype(int)
    root = np.sqrt([(shell == number).sum() for number in range(1, 91)])
    snr = (np.sqrt(2) - 1) / 2
    expected = (snr + (2 * np.sqrt(snr) + 1) / root) / (1 + snr + 2 * np.sqrt(snr) / root)
    assert curve.half_bit == pytest.approx(expected, rel=1e-3)


def test_frc_of_independent_noise_is_zero_within_its_standard_deviation() -> None:
    rng = np.random.default_rng(0)
    draws = [[rng.normal(size=(128, 128)) + 1j * rng.normal(size=(128, 128)) for _ in range(2)] for _ in range(8)]
    curves = np.array([frc(a, b).curve for a, b in draws])
    window = tukey_window(128)
    independent = (window**2).sum() ** 2 / ((window**4).sum() * 128)  # share of Fourier pixels that are independent
    deviation = 1 / np.sqrt(2 * 2 * np.pi * np.arange(1, 65) * independent**2)
    assert np.abs(curves[:, 5:]).max() < 5 * deviation[5:].max()
    assert np.all(np.abs(curves[:, 5:]).mean(axis=0) < 3 * deviation[5:])
    assert np.abs(curves.mean()) < 0.02


def test_frc_crossing_lies_where_one_image_was_cut_off() -> None:
    rng = np.random.default_rng(1)
    signal, first, second = (rng.normal(size=(200, 200)) + 1j * rng.normal(size=(200, 200)) for _ in range(3))
    k = np.hypot(fft.fftfreq(200)[:, None], fft.fftfreq(200))
    common = fft.ifft2(fft.fft2(signal) * (k < 0.2))
    found = frc(common + 0.2 * first, common + 0.2 * second)
    assert found.frequency_half == pytest.approx(0.2, abs=0.01)
    assert found.frequency_half <= found.frequency_seventh < 0.23
    assert found.area == pytest.approx(0.4 * 1 / 1.04, abs=0.02)


def test_frc_of_a_known_signal_to_noise_ratio() -> None:
    rng = np.random.default_rng(2)
    signal, first, second = (rng.normal(size=(256, 256)) for _ in range(3))
    assert frc(signal + first, signal + second).curve[10:].mean() == pytest.approx(0.5, abs=0.02)


def test_frc_uses_the_upper_left_square_and_sees_the_sign() -> None:
    image = band_limited()
    wide = np.pad(image, ((0, 0), (0, 40)), constant_values=9.0)
    assert frc(wide, wide * 1.0).curve == pytest.approx(frc(image, image).curve)
    assert frc(image, -image).area == pytest.approx(-1.0)
    with pytest.raises(InputError, match='one shape'):
        frc(image, wide)


# --- residual --------------------------------------------------------------------------------------------------------


def test_residual_by_hand() -> None:
    counts = np.array([[[4.0, 9.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]])
    predicted = np.array([[[9.0, 9.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 4.0]]])
    found = residual(predicted, counts)
    assert found.per_pattern == pytest.approx([2 / 14, 4.0])
    assert found.overall == pytest.approx(6 / 15)
    good = np.array([[True, True], [True, False]])
    assert residual(predicted, counts, good).per_pattern == pytest.approx([2 / 13, 0.0])
    parts = Residual.join([residual(predicted[i : i + 1], counts[i : i + 1]) for i in range(2)])
    assert parts.overall == found.overall
    with pytest.raises(InputError, match='shape'):
        residual(predicted[:1], counts)


# --- reference figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'phase'), [('simulated_A', 13.2), ('simulated_B', 14.5)])
def test_a_flat_object_scores_the_reference_phase_on_simulated_scans(
    shared_data: Path, name: str, phase: float
) -> None:
    data = np.load(shared_data / f'{name}.npz')
    truth, positions = data['objectGuess'], np.stack([data['ycoords'], data['xcoords']], axis=1)
    c = compare(np.ones_like(truth), (0, 0), truth, (0, 0), positions)
    assert c.phase_psnr == pytest.approx(phase, abs=0.3)
    assert abs(c.frc.area) < 0.05


@pytest.mark.slow
def test_the_star_reference_has_its_residual_and_a_flat_object_its_score(shared_data: Path) -> None:
    data, reference = (np.load(shared_data / f'siemens_star_{n}.npz') for n in ('velociprobe', 'reference'))
    origin = (float(reference['origin_row']), float(reference['origin_col']))
    positions = np.stack([data['ycoords'], data['xcoords']], axis=1)
    truth = reference['object']
    c = compare(np.ones_like(truth), origin, truth, origin, positions, margin=8)
    assert c.phase_psnr == pytest.approx(16.3, abs=0.4)
    some = np.arange(0, len(positions), 8)
    predicted = np.concatenate(list(expected_counts(truth, reference['probe'][None], positions[some] + origin)))
    assert residual(predicted, data['diff3d'][some]).overall == pytest.approx(0.0115, rel=0.06)
    mirrored = np.concatenate(list(expected_counts(truth.conj(), reference['probe'][None], positions[some] + origin)))
    assert residual(mirrored, data['diff3d'][some]).overall > 0.03
