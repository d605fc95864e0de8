"""The phase factors of spots that do not overlap: which pixel is whose, what is removed, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics import Image, band_limited, moved, ramped, score

from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.probes import energy_diameter, make_probe
from ptychopinn_reconstructor.physics.scoring.metrics import Comparison, compare
from ptychopinn_reconstructor.physics.scoring.pistons import remove_pistons, spot_labels

GRID = np.stack(np.meshgrid(*[np.arange(29.5, 151.0, 20.0)] * 2, indexing='ij'), axis=-1).reshape(-1, 2)


def against(result: Image, truth: Image, *, pistons: bool = True) -> Comparison:
    return compare(result, (0.0, 0.0), truth, (0.0, 0.0), GRID, pistons=pistons)


def with_pistons(image: Image, seed: int = 0, spread: float = np.pi) -> Image:
    """Each 20 x 20 square about a position of GRID multiplied by a random phase factor."""
    phases = np.random.default_rng(seed).uniform(-spread, spread, (10, 10))
    rows, cols = np.indices(image.shape)
    return np.asarray(image * np.exp(1j * phases[(rows - 20) // 20, (cols - 20) // 20]))


def test_a_pixel_belongs_to_the_nearest_center() -> None:
    """Two centers: the line between them is halfway; the origin moves the positions, not the window."""
    labels = spot_labels(np.array([[4.0, 2.0], [4.0, 9.0]]), (0.0, 1.0), (slice(2, 7), slice(0, 14)))
    assert labels.shape == (5, 14)
    assert (labels == (np.arange(14) > 6.5)).all()


def test_random_pistons_are_removed_and_the_error_that_is_left_is_scored() -> None:
    truth = band_limited()
    noise = 0.05 * np.random.default_rng(1).standard_normal(truth.shape)
    noisy = truth * np.exp(1j * noise)
    plain, found = against(noisy, truth, pistons=False), against(with_pistons(noisy), truth)
    assert against(with_pistons(noisy), truth, pistons=False).phase_psnr < 10
    # each of the 36 factors fits a little of the noise too, as the one global phase does
    assert found.phase_psnr == pytest.approx(10 * np.log10(2.4**2 / 0.05**2), abs=0.2)
    assert found.phase_psnr - plain.phase_psnr == pytest.approx(0, abs=0.1)
    assert found.amplitude_psnr == plain.amplitude_psnr or found.amplitude_psnr > 60
    assert found.frc.area == pytest.approx(plain.frc.area, abs=0.02)


def test_an_error_within_a_spot_stays() -> None:
    """A phase that grows across each spot is no piston: but for its mean in the cut squares at the rim it is seen."""
    truth = np.ones((181, 181), dtype=np.complex128)
    saw = 0.3 * (((np.arange(181) - 20) % 20 - 9.5) / 9.5)
    found = against(with_pistons(truth * np.exp(1j * saw)), truth)
    cells = [part - part.mean() for part in np.split(saw[34:147], np.arange(6, 113, 20))]
    inside = np.concatenate(cells)
    assert found.phase_psnr == pytest.approx(10 * np.log10(2.4**2 / np.mean(inside**2)), abs=0.3)


def test_what_is_said_to_be_raw_keeps_the_pistons() -> None:
    truth = band_limited()
    result = with_pistons(truth)
    found, plain = against(result, truth), against(result, truth, pistons=False)
    assert (found.phase_psnr_raw, found.phase_psnr_global) == (plain.phase_psnr_raw, plain.phase_psnr_global)
    assert found.phase_psnr > 60 and found.phase_psnr_raw < 10


def test_shift_and_ramp_are_removed_beside_the_pistons() -> None:
    truth = band_limited()
    result = ramped(with_pistons(moved(truth, (0.4, -0.3)), spread=0.5), (0.004, -0.002), 1.0)
    found = against(result, truth)
    assert found.alignment.shift == pytest.approx((0.4, -0.3), abs=0.1)
    assert found.phase_psnr > 32


def test_with_one_spot_there_is_only_the_global_phase() -> None:
    truth = band_limited()
    noisy = truth * np.exp(0.1j * np.random.default_rng(2).standard_normal(truth.shape) + 1j)
    assert score(noisy, truth, pistons=True).phase_psnr == pytest.approx(score(noisy, truth).phase_psnr, abs=0.05)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_nothing_else_changes_and_no_factor_is_closer(seed: int, spots: int) -> None:
    rng = np.random.default_rng(seed)
    truth, result = _noise(rng), _noise(rng)
    labels = spot_labels(rng.uniform(0, 12, (spots, 2)), (0.0, 0.0), (slice(0, 12), slice(0, 15)))
    found = remove_pistons(result, truth, labels)
    np.testing.assert_allclose(np.abs(found), np.abs(result))
    np.testing.assert_allclose(remove_pistons(found, truth, labels), found, atol=1e-12)
    for label in range(labels.max() + 1):
        inside = labels == label
        error = np.linalg.norm(found[inside] - truth[inside])
        for turn in (0.1, -0.1, 2.0):
            assert error <= np.linalg.norm(found[inside] * np.exp(1j * turn) - truth[inside]) + 1e-9


def _noise(rng: np.random.Generator) -> Image:
    return np.asarray(rng.standard_normal((12, 15)) + 1j * rng.standard_normal((12, 15)))


def test_the_area_is_that_of_every_other_score() -> None:
    truth = band_limited()
    assert against(truth, truth).area == scan_area(GRID, (0.0, 0.0), 4)


# the diameter of a probe, of which the overlap is a share


def test_diameter_of_a_gaussian() -> None:
    """exp(-r^2 / (2 s^2)) in amplitude holds 90 % of its energy within r = s sqrt(ln 10)."""
    rows, cols = np.indices((96, 96)) - 44.3
    probe = np.exp(-(rows**2 + cols**2) / (2 * 9.0**2)) * np.exp(0.3j * rows)
    assert energy_diameter(probe) == pytest.approx(2 * 9.0 * np.sqrt(np.log(10)), rel=0.01)
    assert energy_diameter(np.roll(probe, (5, -7), axis=(0, 1))) == pytest.approx(energy_diameter(probe), rel=1e-3)
    assert energy_diameter(probe, 0.5) == pytest.approx(2 * 9.0 * np.sqrt(np.log(2)), rel=0.02)
    assert energy_diameter(30 * np.stack([probe, 0.5 * probe])) == pytest.approx(energy_diameter(probe), rel=1e-6)


def test_diameter_of_a_disk() -> None:
    rows, cols = np.indices((128, 128)) - 64
    disk = (np.hypot(rows, cols) <= 40).astype(complex)
    assert energy_diameter(disk) == pytest.approx(80 * np.sqrt(0.9), rel=0.01)


def test_diameter_of_the_simulated_probe() -> None:
    """That of simulated_A: a step of 8 px is an overlap of 65 %."""
    assert energy_diameter(make_probe('defocused', 64)) == pytest.approx(22.8, abs=0.1)
