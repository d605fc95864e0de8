"""The reference forward model and its losses (specs/units_and_axes.md, U1 to U3; contracts MODES)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics import forward

N = 32


def complex_array(seed: int, *shape: int) -> NDArray[np.complex128]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def dispersion(folder: Path, *, half: float, sign: float) -> float:
    """sum (I - I_pred)^2 / sum I_pred of simulated_A with the corner at c - half and the probe shifted by sign * f.

    Counting noise alone gives 1. Written out here with loops of slices, apart from the function under test.
    """
    with np.load(folder / 'simulated_A.npz') as file:
        pick = slice(0, 1024, 8)
        counts = file['diff3d'][pick].astype(np.float64)
        centers = np.stack([file['ycoords'][pick], file['xcoords'][pick]], axis=1)
        probe, truth = file['probeGuess'].reshape(1, 64, 64), file['objectGuess']
    corners = centers - half
    whole = np.rint(corners).astype(int)
    side = counts.shape[1]
    patches = np.stack([truth[r : r + side, c : c + side] for r, c in whole])
    predicted = forward.diffract(probe, patches, sign * (corners - whole))
    return float(((counts - predicted) ** 2).sum() / predicted.sum())


def test_simulated_scan_is_reproduced_at_the_counting_noise(shared_data: Path) -> None:
    """U1, U2, OFFSETS: the convention (N-1)/2 and +f is the one of the data; every other one is worse."""
    side = 64
    right = dispersion(shared_data, half=(side - 1) / 2, sign=1.0)
    assert right == pytest.approx(1.0, abs=0.02)
    wrong = {
        'N/2': dispersion(shared_data, half=side / 2, sign=1.0),
        'other sign': dispersion(shared_data, half=(side - 1) / 2, sign=-1.0),
        'no shift': dispersion(shared_data, half=(side - 1) / 2, sign=0.0),
    }
    assert min(wrong.values()) > 1.25 * right, wrong


def test_counts_are_conserved() -> None:
    """U3, AMPLITUDE: the sum over a pattern is that over the exit wave, sub-pixel shift included."""
    probe, patches = complex_array(0, 2, N, N), complex_array(1, 3, N, N)
    fractions = np.array([[0.0, 0.0], [0.5, -0.5], [0.2, 0.1]])
    shifted = forward.shift_probe(probe, fractions)
    power = (np.abs(shifted * patches[:, None]) ** 2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(forward.diffract(probe, patches, fractions).sum(axis=(1, 2)), power, rtol=1e-5)
    np.testing.assert_allclose((np.abs(shifted) ** 2).sum(axis=(1, 2, 3)), (np.abs(probe) ** 2).sum(), rtol=1e-5)


@pytest.mark.parametrize('m', [(0, 0), (3, -5), (-16, 15)])
def test_a_plane_wave_ends_in_one_pixel(m: tuple[int, int]) -> None:
    """U1, U3: zero frequency at [N//2, N//2], rows and columns in order; N^2 counts under a probe of 1."""
    row, col = np.mgrid[:N, :N]
    patch = np.exp(2j * np.pi * (m[0] * row + m[1] * col) / N)
    pattern = forward.diffract(np.ones((1, N, N)), patch[None], np.zeros((1, 2)))[0]
    expected = np.zeros((N, N))
    expected[N // 2 + m[0], N // 2 + m[1]] = N**2
    np.testing.assert_allclose(pattern, expected, atol=1e-6)


def test_the_forward_model_against_a_matrix() -> None:
    """U2, U3: one pattern by explicit Fourier matrices; the shifted probe by the trigonometric sum."""
    side, f = 16, np.array([0.3, -0.45])
    probe, patch = complex_array(2, side, side), complex_array(3, side, side)
    k, x = np.fft.fftfreq(side), np.arange(side)
    transform = np.exp(-2j * np.pi * np.outer(k, x))
    back = [np.conj(transform.T) * np.exp(-2j * np.pi * k * shift) / side for shift in f]
    shifted = back[0] @ (transform @ probe @ transform.T) @ back[1].T
    intensity = np.abs(transform @ (shifted * patch) @ transform.T / side) ** 2
    found = forward.diffract(probe[None], patch[None], f[None])[0]
    np.testing.assert_allclose(found, np.roll(intensity, (side // 2, side // 2), axis=(0, 1)), rtol=1e-4, atol=1e-5)


def test_modes_add_in_intensity() -> None:
    """MODES: the sum of the modes' patterns, which is not the pattern of the summed probe."""
    probe, patches = complex_array(4, 3, N, N), complex_array(5, 2, N, N)
    fractions = np.array([[0.1, -0.3], [0.0, 0.25]])
    each = np.array([forward.diffract(mode[None], patches, fractions) for mode in probe])
    together = forward.diffract(probe, patches, fractions)
    np.testing.assert_allclose(together, each.sum(axis=0), rtol=1e-5)
    coherent = forward.diffract(probe.sum(axis=0, keepdims=True), patches, fractions)
    assert np.abs(coherent - together).mean() > 0.3 * together.mean()


def expected_loss(intensity: float, rate: float) -> float:
    """Expectation of the loss over Poisson counts of mean `rate`, summed over all counts that matter."""
    from scipy import stats

    low, high = stats.poisson.ppf(np.array([1e-16, 1 - 1e-15]), rate).tolist()
    counts = np.arange(low, high + 2)
    losses = [forward.poisson_loss(np.array(intensity), np.array(n)) for n in counts]
    return float(stats.poisson.pmf(counts, rate) @ np.array(losses))


@pytest.mark.parametrize('rate', [0.01, 0.1, 1.0, 10.0, 100.0, 1e4])
def test_poisson_loss_is_unbiased(rate: float) -> None:
    """AMPLITUDE: the expected loss is smallest, and its derivative zero, where I_pred is the expected count."""
    step = 1e-3 * (rate + 0.1)
    low, middle, high = (expected_loss(rate + d, rate) for d in (-step, 0.0, step))
    curvature = 1 / (rate + 0.1)
    # I - counts log(I + 0.1), the biased form, has the derivative 0.1 / (rate + 0.1) here.
    assert abs(high - low) / (2 * step) < 1e-5
    np.testing.assert_allclose((high - 2 * middle + low) / step**2, curvature, rtol=1e-3)


def test_poisson_loss_is_zero_for_a_perfect_prediction_and_positive_otherwise() -> None:
    """Dark pixels included, where the plain likelihood is infinite."""
    counts = np.random.default_rng(6).poisson(0.7, (4, N, N)).astype(float)
    assert forward.poisson_loss(counts, counts) == 0.0
    assert forward.poisson_loss(counts * 1.1 + 0.01, counts) > 0
    dark = forward.poisson_loss(np.array([2.0]), np.array([0.0]))
    np.testing.assert_allclose(dark, 2.0 - 0.1 * np.log(2.1 / 0.1), rtol=1e-12)


@pytest.mark.parametrize('loss', [forward.poisson_loss, forward.amplitude_loss])
def test_bad_pixels_do_not_count(loss: Callable[..., float]) -> None:
    """Whatever a bad pixel holds, the loss is that of the good ones."""
    rng = np.random.default_rng(7)
    counts, intensity = rng.poisson(5.0, (3, N, N)).astype(float), rng.uniform(1, 9, (3, N, N))
    good = rng.uniform(size=(N, N)) > 0.2
    garbage = np.where(good, counts, 1e9)
    assert loss(intensity, garbage, good) == loss(intensity, counts, good)
    np.testing.assert_allclose(
        loss(intensity, counts, good),
        np.mean([loss(intensity[:, i, j], counts[:, i, j]) for i, j in np.argwhere(good)]),
    )


def test_total_variation_by_hand() -> None:
    """S6: a ramp of 0.1 a row and 0.2 a column; the last row and column have one neighbor less; weights count."""
    row, col = np.mgrid[:4, :4]
    ramp = (0.1 * row + 0.2j * col)[None]
    assert forward.total_variation(ramp, np.ones((4, 4))) == pytest.approx((12 * 0.1 + 12 * 0.2) / 16)
    weight = np.zeros((4, 4))
    weight[1, 1] = 3.0
    assert forward.total_variation(ramp, weight) == pytest.approx(0.3)
    assert forward.total_variation(np.full((2, 4, 4), 1j), np.ones((2, 4, 4))) == 0


def test_object_error_by_hand() -> None:
    """S7: amplitude off by 0.1 everywhere, whatever the global phase; dark pixels do not count."""
    labels = np.exp(1j * np.random.default_rng(8).normal(size=(3, 6, 6)))
    weight = np.ones((6, 6))
    weight[0] = 0
    wrong = np.where(weight > 0, 1.1 * labels, 7.0) * np.exp(2j)
    assert forward.object_error(wrong, labels, weight) == pytest.approx(0.1)


def test_amplitude_loss_by_hand() -> None:
    """Mean of abs(sqrt 9 - sqrt 4), abs(sqrt 0 - sqrt 1)."""
    assert forward.amplitude_loss(np.array([9.0, 0.0]), np.array([4.0, 1.0])) == 1.0
