"""Refinement of scan positions: known displacements come back, affine drifts do not, limits hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.positions import (
    LONGEST_STEP,
    Displacements,
    displace_scan,
    displacement_gradient,
)
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.update import center_of
from ptychopinn_reconstructor.physics.forward import diffract, illuminate, propagate, shift_probe
from ptychopinn_reconstructor.physics.geometry import fourier_shift, gather_patches
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

FEW = np.array([14, 37, 55, 81])
MOVED = np.array([[0.8, -0.6], [-1.1, 0.2], [0.3, 0.9], [-0.5, -0.7]])


@pytest.fixture(scope='module')
def scan() -> Scan:
    return simulate(n=32, positions=100, step=4.0, photons=1e6, jitter=1.0, seed=1)


def displaced(scan: Scan, by: np.ndarray) -> PreparedScan:
    return prepare_scan(replace(scan, positions=scan.positions + by), mode='absolute')


def flat(prepared: PreparedScan) -> np.ndarray:
    return np.ones(prepared.layout.shape, dtype=np.complex64)


def test_the_slope_is_that_of_the_amplitudes(scan: Scan) -> None:
    """A step from patterns that are moved by a known small amount is that amount, with two modes and bad pixels."""
    prepared, index = prepare_scan(scan), np.array([40, 41, 57])
    probe = np.concatenate([prepared.probe, 0.4 * np.roll(prepared.probe, 3, axis=-1)]).astype(np.complex128)
    assert scan.object is not None
    rows, cols = prepared.layout.shape
    patches = gather_patches(scan.object[2 : 2 + rows, 2 : 2 + cols], prepared.layout.corners[index], 32)
    fractions, small = prepared.layout.fractions[index], np.array([[0.01, -0.02], [0.0, 0.01], [-0.015, 0.0]])

    def far_field(at: np.ndarray) -> np.ndarray:
        return propagate(illuminate(shift_probe(probe, at), patches))

    wave, h = far_field(fractions), 1e-3
    slopes = [(far_field(fractions + e) - far_field(fractions - e)) / (2 * h) for e in h * np.eye(2)]
    good = np.ones((32, 32), dtype=bool)
    good[:4] = False
    counts = (np.abs(far_field(fractions + small)) ** 2).sum(axis=1)
    slope, curvature = displacement_gradient(
        wave, np.stack(slopes, axis=1), counts, (np.abs(wave) ** 2).sum(axis=1), good
    )
    assert np.linalg.solve(curvature, slope[..., None])[..., 0] == pytest.approx(small, abs=1e-3)


def test_displacements_of_a_few_positions_come_back(scan: Scan) -> None:
    by = np.zeros_like(scan.positions)
    by[FEW] = MOVED
    prepared = displaced(scan, by)
    options = RefineOptions.for_scan(24, refine_positions=True)
    found = refine(prepared, flat(prepared), options).displacements
    assert found is not None
    in_file = np.empty_like(found)
    in_file[prepared.order] = found
    assert np.abs(in_file[FEW] + MOVED).max() < 0.15
    assert np.sqrt((np.delete(in_file, FEW, axis=0) ** 2).mean()) < 0.1
    assert np.abs(found.mean(axis=0)).max() < 1e-9


def test_the_result_has_the_refined_positions_on_the_same_canvas(scan: Scan) -> None:
    shuffled = np.random.default_rng(3).permutation(100)
    other = replace(scan, positions=scan.positions[shuffled], diffraction=scan.diffraction[shuffled])
    prepared = prepare_scan(other)
    by = np.random.default_rng(4).normal(0, 0.5, (100, 2))
    moved = displace_scan(prepared, by)
    assert moved.scan.positions[prepared.order] - other.positions[prepared.order] == pytest.approx(by)
    canvas = np.random.default_rng(5).normal(size=prepared.layout.shape) + 0j
    middle = np.flatnonzero((prepared.layout.corners > 2).all(axis=1) & (prepared.layout.corners < 30).all(axis=1))[:9]
    patches = gather_patches(canvas, moved.layout.corners[middle], 32)
    place = prepared.layout.corners + prepared.layout.fractions + by
    expected = diffract(prepared.probe, patches, (place - moved.layout.corners)[middle])
    assert diffract(moved.probe, patches, moved.layout.fractions[middle]) == pytest.approx(expected)
    assert np.abs(moved.layout.fractions[middle]).max() <= 0.5
    assert (moved.layout.corners >= 0).all() and (moved.layout.corners + 32 <= moved.layout.shape).all()
    assert moved.layout.shape == prepared.layout.shape and moved.layout.origin == prepared.layout.origin


def test_an_affine_map_of_the_positions_is_left_to_the_object() -> None:
    rng = np.random.default_rng(0)
    positions, own = rng.uniform(0, 80, (60, 2)), rng.normal(size=(60, 2))
    held = [Displacements(positions, 5.0) for _ in range(2)]
    held[0].values[:] = own
    held[1].values[:] = own + [0.4, -1.0] + (positions - 20) @ [[0.01, 0.02], [-0.03, 0.005]]
    for one in held:
        one.remove_affine_part()
    assert held[1].values == pytest.approx(held[0].values, abs=1e-12)
    assert np.abs(held[0].values.mean(axis=0)).max() < 1e-12
    assert held[0].values.std() > 0.8


def test_steps_and_displacements_are_limited_and_shrink_without_light() -> None:
    moved = Displacements(np.zeros((3, 2)), largest=0.6)
    index, curvature = np.array([0, 2]), np.stack([1e4 * np.eye(2), np.zeros((2, 2))])
    slope = np.array([[9e4, -100.0], [0.0, 0.0]])
    moved.values[2] = [0.3, 0.0]
    moved.step(index, slope, curvature)
    assert moved.values[0] == pytest.approx([LONGEST_STEP, -0.01], rel=1e-3)
    assert not moved.values[1].any() and moved.values[2] == pytest.approx([0, 0])
    moved.step(index, slope, curvature)
    assert np.linalg.norm(moved.values[0]) == pytest.approx(0.6)


def test_before_their_pass_positions_change_nothing(scan: Scan) -> None:
    prepared = prepare_scan(scan)
    off = refine(prepared, flat(prepared), RefineOptions.for_scan(2))
    on = refine(prepared, flat(prepared), RefineOptions.for_scan(2, refine_positions=True))
    assert off.displacements is None and on.displacements is not None and not on.displacements.any()
    assert np.array_equal(on.canvas, off.canvas) and on.residuals == off.residuals


def test_a_wrong_probe_is_mended_without_moving(scan: Scan) -> None:
    assert scan.probe is not None
    k = np.fft.fftfreq(32)
    defocus = np.exp(40j * (k[:, None] ** 2 + k[None] ** 2))
    guess = np.fft.ifft2(np.fft.fft2(fourier_shift(scan.probe, np.array([[0.4, -0.3]]))) * defocus)
    prepared = prepare_scan(scan, probe=guess.astype(np.complex64), mode='absolute')
    found = refine(prepared, flat(prepared), RefineOptions.for_scan(12, refine_probe=True)).probe
    assert np.abs(found - prepared.probe).max() > 0.05 * np.abs(found).max()
    assert center_of(found) == pytest.approx(center_of(prepared.probe), abs=0.02)


@pytest.mark.parametrize('values', [{'largest_displacement': 0.0}, {'positions_from_pass': 0}])
def test_options_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r'\d'):
        RefineOptions(1, **values)  # type: ignore[arg-type]
