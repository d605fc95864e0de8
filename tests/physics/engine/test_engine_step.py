"""The far-field step and the long-range phase step of the classical engine against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep, amplitude_bias, poisson_score


@pytest.mark.parametrize('expected', [0.01, 0.1, 1.0, 10.0, 100.0, 1e4])
def test_poisson_score_is_unbiased(expected: float) -> None:
    from scipy import stats

    high = int(expected + 12 * np.sqrt(expected) + 30)
    counts = np.arange(high)
    chance = stats.poisson.pmf(counts, expected)
    score = poisson_score(counts.astype(np.float32), np.full(high, expected, np.float32)).astype(float)
    spread = np.sqrt(np.sum(chance * score**2))
    assert abs(np.sum(chance * score)) < 1e-3 * spread
    assert np.all(np.diff(score) >= 0)


def test_poisson_score_is_bounded_far_from_the_data() -> None:
    score = poisson_score(np.array([1e6], np.float32), np.array([1e-3], np.float32))
    assert score[0] == pytest.approx(np.sqrt((1e6 + 0.1) / 0.101) - 1, rel=1e-3)


@pytest.mark.parametrize('expected', [0.02, 0.5, 3.0, 29.0, 31.0, 1e3])
def test_amplitude_bias_equals_the_expectation(expected: float) -> None:
    from scipy import stats

    counts = np.arange(int(expected + 12 * np.sqrt(expected) + 30))
    root = np.sum(stats.poisson.pmf(counts, expected) * np.sqrt(counts))
    bias = 1 - root / np.sqrt(expected)
    assert amplitude_bias(np.full((4, 4), expected)) == pytest.approx(bias, rel=0.05)


def test_amplitude_projection_where_the_share_is_zero() -> None:
    counts = np.array([[[4.0, 9.0], [0.0, 1.0]]], np.float32)
    predicted = np.array([[[1.0, 9.0], [4.0, 4.0]]], np.float32)
    factor, error = FarFieldStep(0.0)(counts, predicted)
    assert factor == pytest.approx(np.array([[[1.0, 0.0], [-1.0, -0.5]]]))
    assert error == pytest.approx(1 + 0 + 4 + 1)


def test_bad_pixels_get_no_correction() -> None:
    good = np.array([[True, False], [True, True]])
    counts, predicted = np.full((1, 2, 2), 9.0, np.float32), np.full((1, 2, 2), 4.0, np.float32)
    for share in (0.0, 0.5, 1.0):
        factor, error = FarFieldStep(share, good)(counts, predicted)
        assert factor[0, 0, 1] == 0 and (factor[0][good] > 0).all()
        assert error == pytest.approx(3.0)
