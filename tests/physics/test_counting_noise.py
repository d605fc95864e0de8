"""The misfit that counting noise causes, against sums over all counts and against drawn counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ptychopinn_reconstructor.physics.counting_noise import expected_residual
from ptychopinn_reconstructor.physics.residual import Residual, residual


@given(st.floats(1e-6, 1e5))
def test_it_is_the_sum_over_all_counts(mean: float) -> None:
    counts = np.arange(int(mean + 15 * np.sqrt(mean) + 30))
    exact = float((stats.poisson.pmf(counts, mean) * (np.sqrt(counts) - np.sqrt(mean)) ** 2).sum())
    assert float(expected_residual(np.array(mean))) == pytest.approx(exact, rel=6e-4)


def test_limits() -> None:
    values = expected_residual(np.array([0.0, 1e-3, 1e9]))
    np.testing.assert_allclose(values, [0, 2e-3, 0.25], rtol=0.05)


@given(st.floats(0.2, 1e4), st.integers(0, 2**32 - 1))
def test_drawn_counts_have_a_noise_ratio_of_one(dose: float, seed: int) -> None:
    """Of speckle of any mean intensity: four standard errors of the mean of 16,384 pixels."""
    rng = np.random.default_rng(seed)
    predicted = rng.exponential(dose, (4, 64, 64))
    misfit = residual(predicted, rng.poisson(predicted))
    assert misfit.noise_ratio == pytest.approx(1, abs=0.06)
    assert residual(predicted * 1.5, rng.poisson(predicted)).noise_ratio > 1.01 or dose < 5


def test_bad_pixels_and_dark_ones_do_not_count() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.exponential(20, (8, 32, 32))
    counts = rng.poisson(predicted)
    clean, good = residual(predicted, counts), np.ones((32, 32), dtype=bool)
    good[3, 4] = False
    counts[:, 3, 4] = 60_000
    misfit = residual(predicted, counts, good)
    assert misfit.noise_ratio == pytest.approx(clean.noise_ratio, rel=0.01)
    assert misfit.detector is not None and misfit.detector.measured[3, 4] == 0
    predicted[:, 3, 4] = 1e-9
    assert residual(predicted, counts).noise_ratio == pytest.approx(clean.noise_ratio, rel=0.01)


def test_parts_join_to_the_whole() -> None:
    rng = np.random.default_rng(2)
    predicted = rng.exponential(3, (6, 16, 16))
    counts, order = rng.poisson(predicted), np.array([3, 0, 5, 1, 4, 2])
    whole = residual(predicted, counts)
    joined = Residual.join([residual(predicted[i : i + 2], counts[i : i + 2]) for i in (0, 2, 4)])
    assert joined.noise_ratio == pytest.approx(whole.noise_ratio)
    assert joined.detector is not None and whole.detector is not None
    np.testing.assert_allclose(joined.detector.measured_squared, (counts.astype(float) ** 2).sum(axis=0))
    np.testing.assert_allclose(joined.detector.predicted, whole.detector.predicted)
    ordered = whole.ordered(order)
    np.testing.assert_array_equal(ordered.noise_ratio_per_pattern[order], whole.noise_ratio_per_pattern)
    assert ordered.detector is whole.detector
