"""Propagation to the near field: analytic beams, a direct sum over a cone beam, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.physics.arrays import NUMPY
from ptychopinn_reconstructor.physics.forward import diffract, measure, propagate
from ptychopinn_reconstructor.physics.geometry import shift_ramp
from ptychopinn_reconstructor.physics.propagation import (
    Propagator,
    compute_fresnel_number,
    compute_magnification,
    fresnel_kernel,
    fresnel_transfer,
)
from ptychopinn_reconstructor.scan import Scan

numbers = st.floats(3e-3, 5.0)
WAVELENGTH = 1e-10


def gaussian(n: int, width: float) -> NDArray[np.complex128]:
    """exp(-r^2 / width^2) about [n//2, n//2]."""
    x = np.arange(n) - n // 2
    return np.exp(-(x[:, None] ** 2 + x**2) / width**2).astype(np.complex128)


@settings(max_examples=20)
@given(st.sampled_from([16, 24, 64]), numbers, numbers, st.integers(0, 1000))
def test_light_is_neither_lost_nor_won_and_comes_back(n: int, row: float, col: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(2, 3, n, n)) + 1j * rng.normal(size=(2, 3, n, n))
    at_detector = propagate(waves, fresnel_kernel(n, (row, col)).astype(np.complex128))
    assert (np.abs(at_detector) ** 2).sum() == pytest.approx((np.abs(waves) ** 2).sum(), rel=1e-6)
    ramp = shift_ramp(rng.uniform(-0.5, 0.5, (2, 2)), n, centered=True)
    propagator = Propagator.for_patterns((row, col), ramp, NUMPY)
    found = propagator.backward(propagator.forward(waves.copy()))
    assert np.abs(found - waves).max() < 1e-5


@pytest.mark.parametrize('number', [0.5, 0.05, 0.012])
def test_a_gaussian_beam_spreads_as_it_must(number: float) -> None:
    """w(z) = w sqrt(1 + (z / z_R)^2) with z_R = pi w^2 / wavelength: in pixels z / z_R = 1 / (pi w^2 F)."""
    n, width = 128, 8.0
    wave = propagate(gaussian(n, width)[None], fresnel_kernel(n, (number, number)).astype(np.complex128))
    spread = 1 / (np.pi * width**2 * number)
    expected = np.abs(gaussian(n, width * np.sqrt(1 + spread**2))) ** 2 / (1 + spread**2)
    assert measure(wave) == pytest.approx(expected, abs=1e-6)
    assert spread > (0.4 if number < 0.02 else 0.009)
    curved = np.fft.fftshift(np.angle(wave[0] * np.exp(1j * np.arctan(spread))))[n // 2, n // 2 : n // 2 + 12]
    assert curved == pytest.approx(np.arange(12) ** 2 * spread / (width**2 * (1 + spread**2)), abs=1e-5)


def test_a_cone_beam_is_a_parallel_one_seen_through_a_magnifying_glass() -> None:
    """A direct sum over the sample of spherical waves, from a source and to a detector of its own pixels."""
    n, source, detector, pixel = 128, 0.04, 1.2, 52e-6
    magnification = compute_magnification(source, detector)
    own = pixel / magnification
    number = compute_fresnel_number((own, own), WAVELENGTH, detector / magnification)
    assert magnification == pytest.approx(31) and number[0] == pytest.approx(own**2 * 31 / (WAVELENGTH * 1.2))
    own *= np.sqrt(1 / 150 / number[0])  # sampled densely enough for a direct sum, and far enough to spread
    pixel = own * magnification
    number = compute_fresnel_number((own, own), WAVELENGTH, detector / magnification)
    rng, x = np.random.default_rng(0), np.arange(n) - n // 2
    wave = gaussian(n, 9.0) * np.exp(1j * (0.02 * x[:, None] * x / 9 + 0.5 * np.sin(x / 7 + rng.uniform())))
    at, there = x * own, x * pixel
    lens = np.exp(1j * np.pi * at**2 / (WAVELENGTH * source))
    to_there = np.exp(1j * np.pi * (there[:, None] - at) ** 2 / (WAVELENGTH * detector))
    factor = own**2 / (WAVELENGTH * detector)
    summed = factor * to_there @ (wave * lens[:, None] * lens) @ to_there.T
    expected = np.abs(summed) ** 2 * magnification**2
    found = measure(propagate(wave[None], fresnel_kernel(n, number).astype(np.complex128)))
    assert found == pytest.approx(expected, abs=1e-5 * expected.max())
    assert np.abs(expected - np.abs(wave) ** 2).max() > 0.2 * expected.max()


def test_the_illumination_stands_still_and_the_object_moves() -> None:
    """Patterns at fractions of a pixel equal those of a probe at rest on an object that is known everywhere."""
    n, number = 32, (0.05, 0.08)
    x = np.arange(n)
    probe = (gaussian(n, 6.0) * np.exp(0.3j * np.sin(2 * np.pi * x / n)))[None]

    def object_at(row: float, col: float) -> NDArray[np.complex128]:
        y = 2 * np.pi / n * (x + row)[:, None]
        z = 2 * np.pi / n * (x + col)
        return np.asarray(0.8 + 0.1 * np.exp(2j * y) + 0.15 * np.exp(1j * (z - y)) + 0.05j * np.exp(-3j * z))

    fractions = np.array([[0.3, -0.45], [0.0, 0.0], [-0.2, 0.5]])
    patches = np.stack([object_at(0, 0)] * 3)
    kernel = fresnel_kernel(n, number).astype(np.complex128)
    found = diffract(probe, patches, fractions, kernel)
    transfer = fresnel_transfer(n, number)
    for intensity, (row, col) in zip(found, fractions, strict=True):
        wave = np.fft.ifft2(np.fft.fft2(probe[0] * object_at(row, col)) * transfer)
        assert intensity == pytest.approx(np.abs(wave) ** 2, abs=5e-5)  # the beam is cut at 16 pixels
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_the_derivative_by_the_position_is_that_of_the_waves() -> None:
    n, number, h = 24, (0.06, 0.05), 1e-3
    rng = np.random.default_rng(1)
    smooth = np.exp(-30 * (np.fft.fftfreq(n)[:, None] ** 2 + np.fft.fftfreq(n) ** 2))
    probe, patch = (np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, n)) + 1j) * smooth) for _ in range(2))
    sign = 1 - 2 * (np.add.outer(np.arange(n), np.arange(n)) % 2)
    spectrum = np.fft.fft2(probe * sign)
    k = np.fft.fftshift(np.fft.fftfreq(n))

    def waves(at: NDArray[np.float64]) -> tuple[Propagator, NDArray[np.complex128], NDArray[np.complex128]]:
        ramp = shift_ramp(at, n, centered=True)
        propagator = Propagator.for_patterns(number, ramp.astype(np.complex128), NUMPY)
        shifted = spectrum * ramp[:, None]
        return propagator, shifted, propagator.forward(np.fft.ifft2(shifted) * patch)

    at = np.array([[0.2, -0.1]])
    propagator, shifted, wave = waves(at)
    moved = np.stack([np.fft.ifft2(-2j * np.pi * axis * shifted) * patch for axis in (k[:, None], k)], axis=1)
    found = propagator.moved_along(wave, moved)
    for axis, e in enumerate(h * np.eye(2)):
        expected = (waves(at + e)[2] - waves(at - e)[2]) / (2 * h)
        assert np.abs(found[:, axis] - expected).max() < 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize('value', [0.0, -0.1, float('nan'), (0.1, 0.2, 0.3)])
def test_a_fresnel_number_is_positive(value: float) -> None:
    with pytest.raises(ScanError, match='The Fresnel number is'):
        Scan(np.ones((4, 16, 16)), np.arange(8.0).reshape(4, 2), fresnel_number=value)  # type: ignore[arg-type]


def test_one_fresnel_number_is_that_of_both_axes() -> None:
    scan = Scan(np.ones((4, 16, 16)), np.arange(8.0).reshape(4, 2), fresnel_number=0.1)  # type: ignore[arg-type]
    assert scan.fresnel_number == (0.1, 0.1)
