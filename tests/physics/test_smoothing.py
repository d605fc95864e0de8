"""Smoothing of patches (clause S5)."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.forward import total_variation
from ptychopinn_reconstructor.physics.smoothing import smooth_patches, smoothing_matrix


def test_a_constant_stays_to_the_rim() -> None:
    """S5: nothing comes in from outside the patch."""
    np.testing.assert_allclose(smooth_patches(np.full((2, 16, 16), 0.7 - 0.2j), 3.0), 0.7 - 0.2j, rtol=1e-6)


def test_a_point_becomes_a_gaussian_of_sigma() -> None:
    """S5: the standard deviation along each axis is sigma, in pixels, and the sum stays far from the rim."""
    point = np.zeros((1, 41, 41), np.complex64)
    point[0, 20, 20] = 1j
    spot = smooth_patches(point, 2.5)[0].imag
    assert smooth_patches(point, 2.5).dtype == np.complex64
    assert spot.sum() == pytest.approx(1, rel=1e-5)
    pixels = np.arange(41) - 20.0
    for axis in (0, 1):
        assert np.sqrt((spot.sum(axis=axis) * pixels**2).sum()) == pytest.approx(2.5, rel=1e-3)


def test_more_is_smoother_and_none_is_none() -> None:
    """S5, SETTINGS: the documented direction: the larger sigma, the smaller the total variation; 0 changes nothing."""
    rng = np.random.default_rng(0)
    patches = np.exp(rng.normal(size=(3, 16, 16)) * (0.2 + 0.5j))
    found = [total_variation(smooth_patches(patches, sigma), np.ones((16, 16))) for sigma in (0, 0.5, 1, 2, 8)]
    assert found == sorted(found, reverse=True) and found[-1] < 0.1 * found[0]
    assert smooth_patches(patches, 0) is patches
    np.testing.assert_allclose(smoothing_matrix(16, 1e-3), np.eye(16), atol=1e-12)
