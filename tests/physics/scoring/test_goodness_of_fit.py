"""Tests of a fit, on patterns whose faults are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.residual import residual
from ptychopinn_reconstructor.physics.scoring.goodness_of_fit import (
    Background,
    estimate_background,
    find_bad_pixels,
    find_outlier_patterns,
    measure_bright_share,
    measure_excess,
    measure_mean_pattern,
)

SIDE, PATTERNS = 32, 150
GOOD = np.ones((SIDE, SIDE), dtype=bool)


def speckle(rng: np.random.Generator, dose: float, fall: float = 4.0) -> NDArray[np.float64]:
    """Coherent light that falls off from the center within `fall` pixels, PATTERNS patterns of it."""
    y, x = np.indices((SIDE, SIDE)) - SIDE / 2
    return np.asarray(rng.exponential(1.0, (PATTERNS, SIDE, SIDE)) * dose * np.exp(-np.hypot(y, x) / fall))


def find_background(
    predicted: NDArray[np.float64], counts: NDArray[np.int64], unscattered: float | NDArray[np.float64] = 0.0
) -> Background | None:
    sums = residual(predicted, counts).detector
    assert sums is not None
    return estimate_background(sums, len(counts), np.zeros((SIDE, SIDE)) + unscattered, GOOD)


@given(st.floats(0.6, 3), st.integers(0, 1000))
@settings(max_examples=20)
def test_a_background_is_found_and_measured(level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    light = speckle(rng, 1000, fall=2)
    background = find_background(light, rng.poisson(light + level))
    assert background is not None and background.per_pixel == pytest.approx(level, rel=0.35)
    assert background.share == pytest.approx(level / (light.mean() + level), rel=0.4)


def test_a_background_that_the_object_has_followed_is_found_all_the_same() -> None:
    """An object fitted to it makes speckle of it: counts less prediction would find nothing."""
    rng = np.random.default_rng(0)
    light = speckle(rng, 1000, fall=2)
    followed = light + rng.exponential(0.5, light.shape)
    background = find_background(followed, rng.poisson(light + 0.5))
    assert background is not None and background.per_pixel == pytest.approx(0.5, rel=0.35)


@given(st.floats(3, 1e5), st.integers(0, 1000))
@settings(max_examples=20)
def test_light_that_an_object_scatters_is_no_background(dose: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    light = speckle(rng, dose)
    assert find_background(light, rng.poisson(light)) is None
    assert find_background(light / 3, rng.poisson(light)) is None  # nor where the fit is too dark


def test_light_of_the_probe_alone_is_no_background() -> None:
    rng = np.random.default_rng(0)
    light = speckle(rng, 1000, fall=2)
    counts = rng.poisson(light + 1)
    assert find_background(light, counts, unscattered=1.0) is None
    assert find_background(light, counts) is not None
    assert find_background(light[:10], counts[:10]) is None  # too few patterns for a variance


def test_hot_and_dead_pixels_are_found_and_no_others() -> None:
    rng = np.random.default_rng(0)
    light = speckle(rng, 100)
    counts = rng.poisson(light)
    counts[:, 2, 3] += 200
    counts[:, 14:18, 15] = 0
    sums = residual(light, counts).detector
    assert sums is not None
    hot, dead = find_bad_pixels(sums)
    assert np.argwhere(hot).tolist() == [[2, 3]]
    assert np.argwhere(dead).tolist() == [[14, 15], [15, 15], [16, 15], [17, 15]]


def test_an_object_that_fits_nowhere_has_no_bad_pixels() -> None:
    rng = np.random.default_rng(0)
    light = speckle(rng, 1000)
    sums = residual(light, rng.poisson(light)).detector
    assert sums is not None
    hot, dead = find_bad_pixels(replace(sums, predicted=100 * np.roll(sums.predicted, 9, axis=0)))
    assert not hot.any() and not dead.any()


def test_outlier_patterns_are_found_and_no_others() -> None:
    rng = np.random.default_rng(0)
    light = speckle(rng, 100)
    counts = rng.poisson(light)
    assert find_outlier_patterns(residual(light, counts)).size == 0
    counts[[7, 40]] = 0
    assert find_outlier_patterns(residual(light, counts)).tolist() == [7, 40]
    counts[::3] = 0  # so many are no exception
    assert find_outlier_patterns(residual(light, counts)).size == 0


def test_misfit_beyond_noise() -> None:
    """10 % of the amplitude: .01 of the counts; and a pattern moved by a pixel differs in the mean, too."""
    rng = np.random.default_rng(0)
    light = speckle(rng, 1000)
    counts = rng.poisson(light)
    assert abs(measure_excess(residual(light, counts))) < 1e-3
    assert measure_excess(residual(light * 1.21, counts)) == pytest.approx(0.01, rel=0.1)
    sums = residual(light, counts).detector
    assert sums is not None
    ratio, excess = measure_mean_pattern(sums)
    assert ratio == pytest.approx(1, abs=0.25) and abs(excess) < 1e-4
    ratio, excess = measure_mean_pattern(replace(sums, measured=np.roll(sums.measured, 1, axis=0)))
    assert ratio > 50 and excess > 0.005


def test_brightness_is_that_of_areas() -> None:
    object = np.ones((40, 40), dtype=np.complex64)
    object[5, 5] = 3
    covered = np.ones((40, 40), dtype=bool)
    assert measure_bright_share(object / 1.4, covered) == 0
    object[20:] = 1.2j
    assert measure_bright_share(object, covered) == pytest.approx(0.5, abs=0.06)
    covered[18:] = False
    assert measure_bright_share(object / 1.4, covered) == 0
    assert measure_bright_share(object, ~covered & False) == 0
