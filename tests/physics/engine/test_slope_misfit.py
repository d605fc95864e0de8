"""Slopes that an object leaves: as large as counting noise makes them where it is right, and found where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from engine_cases import Case

from ptychopinn_reconstructor.physics.engine.slope_misfit import measure_slope_misfit
from ptychopinn_reconstructor.physics.prepare import PreparedScan
from ptychopinn_reconstructor.physics.probes import energy_diameter


def prepare(photons: float) -> tuple[PreparedScan, np.ndarray]:
    """A scan with counting noise and its true object."""
    case = Case(photons, side=12, noise=True)
    return case.prepared(), case.truth


@pytest.mark.parametrize('photons', [1e4, 1e6])
def test_the_truth_leaves_slopes_of_counting_noise(photons: float) -> None:
    prepared, canvas = prepare(photons)
    found = measure_slope_misfit(prepared, canvas, prepared.probe)
    assert found is not None
    assert 0.75 < found.ratio < 1.3 and found.phase < 0.02


@pytest.mark.parametrize('slope', [0.004, 0.02])
def test_a_bend_of_the_phase_is_found_with_its_size(slope: float) -> None:
    """A parabola has the slopes `slope` times the distance from the middle, in units of half a canvas."""
    prepared, canvas = prepare(1e6)
    height, width = prepared.layout.shape
    y, x = np.ogrid[:height, :width]
    bend = slope * ((y - height / 2) ** 2 + (x - width / 2) ** 2) / height
    found = measure_slope_misfit(prepared, (canvas * np.exp(1j * bend)).astype(np.complex64), prepared.probe)
    assert found is not None and found.ratio > 2
    offsets = prepared.positions - prepared.positions.mean(axis=0)
    expected = 2 * slope / height * np.sqrt((offsets**2).sum(axis=1).mean())  # rms of the gradient
    assert found.phase == pytest.approx(expected * energy_diameter(prepared.probe), rel=0.15)
    assert found.shift == pytest.approx(expected * prepared.n_pixels / (2 * np.pi), rel=0.15)


def test_no_light_tells_no_slope() -> None:
    prepared, canvas = prepare(1e4)
    assert measure_slope_misfit(prepared, np.zeros_like(canvas), prepared.probe) is None
