"""The probe along the beam against a Gaussian beam, whose width is known in every plane; the ramp of a phase."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.caustic import PLANES, trace_probe
from ptychopinn_reconstructor.physics.phase_ramp import PhaseRamp

N, WAIST = 96, 3.0  # pixels; the standard deviation of the intensity in the focus


def gaussian_beam(defocus: float) -> np.ndarray:
    """A Gaussian beam (1, N, N) at `defocus` (wavelength times distance, square pixels) behind its focus."""
    x = np.arange(N) - N // 2
    squared = x[:, None] ** 2 + x**2
    q = 4 * WAIST**2 + 1j * defocus / np.pi  # of exp(-r^2 / q)
    return np.asarray(np.exp(-squared / q)[None], dtype=np.complex64)


@pytest.mark.parametrize('defocus', [0.0, 70.0, -120.0])
def test_a_gaussian_beam_has_its_focus_and_its_widths(defocus: float) -> None:
    found = trace_probe(gaussian_beam(defocus))
    from_focus = found.defocus + defocus
    expected = WAIST * np.sqrt(1 + (from_focus / (4 * np.pi * WAIST**2)) ** 2)
    inside = expected < N / 8  # what reaches the edge comes in again on the other side
    assert inside.sum() > 20
    assert np.allclose(found.width[inside], expected[inside], rtol=2e-3)
    step = found.defocus[1] - found.defocus[0]
    assert abs(found.focus + defocus) <= step
    assert found.defocus[PLANES // 2] == 0


def test_no_light_is_lost_along_the_beam() -> None:
    found = trace_probe(gaussian_beam(50.0))
    power = float((np.abs(gaussian_beam(50.0)) ** 2).sum())
    assert np.allclose(found.across.sum(axis=1), power, rtol=1e-5)


@pytest.mark.parametrize('slopes', [(0.0, 0.0), (0.02, -0.05), (-1.0, 2.5)])
def test_a_ramp_is_found_and_removed_where_phases_wrap_too(slopes: tuple[float, float]) -> None:
    rows, columns = np.mgrid[:80, :60]
    random = np.random.default_rng(0)
    flat = (0.7 + 0.3 * random.random((80, 60))) * np.exp(0.2j * random.normal(size=(80, 60)))
    tilted = flat * np.exp(1j * (slopes[0] * (rows - 40) + slopes[1] * (columns - 30)))
    ramp = PhaseRamp.of(tilted)
    assert (ramp.rows, ramp.columns) == pytest.approx(slopes, abs=0.005)
    error = ramp.remove_from(tilted) * flat.conj()
    assert np.abs(np.angle(error)).max() < 0.3
    assert ramp.across((80, 60)) == pytest.approx((slopes[0] * 79, slopes[1] * 59), abs=0.4)
