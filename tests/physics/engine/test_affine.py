"""Rotation, shear and scale of a scan: a known map is seen in the patterns, a good scan needs none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.engine.affine import AffineMap, estimate_affine
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.probes import make_probe
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

PASSES = 6


def turn(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def make(kind: str, probe: str, photons: float, step: float = 5.0, seed: int = 1) -> Scan:
    chosen = make_probe(probe, 32)
    return simulate(n=32, positions=144, step=step, photons=photons, jitter=1.0, object=kind, probe=chosen, seed=seed)


def warped(scan: Scan, matrix: np.ndarray) -> PreparedScan:
    center = scan.positions.mean(axis=0)
    return prepare_scan(replace(scan, positions=(scan.positions - center) @ matrix.T + center, object=None))


def estimate(prepared: PreparedScan, passes: int = PASSES) -> AffineMap:
    flat = np.ones(prepared.layout.shape, dtype=np.complex64)
    return estimate_affine(prepared, refine(prepared, flat, RefineOptions.for_scan(passes)).canvas)


@pytest.fixture(scope='module')
def scan() -> Scan:
    return make('cells', 'defocused', 1e5)


@pytest.mark.parametrize('matrix', [1.02 * np.eye(2), 0.98 * np.eye(2), turn(1.5), np.array([[1.0, 0.02], [0.0, 1.0]])])
def test_a_known_map_shows_itself(scan: Scan, matrix: np.ndarray) -> None:
    found = estimate(warped(scan, matrix))
    assert found.needed
    needed = np.linalg.inv(matrix) - np.eye(2)
    share = (found.matrix - np.eye(2)).ravel() @ needed.ravel() / (needed.ravel() @ needed.ravel())
    assert 0.45 < share < 1.1
    assert np.abs(found.matrix - np.eye(2) - share * needed).max() < 0.004


@pytest.mark.parametrize(
    ('kind', 'probe', 'photons', 'step'),
    [('cells', 'defocused', 1e5, 5.0), ('lines', 'defocused', 1e4, 3.0), ('leaves', 'zone_plate', 1e6, 5.0)],
)
def test_a_good_scan_needs_none(kind: str, probe: str, photons: float, step: float) -> None:
    found = estimate(warped(make(kind, probe, photons, step), np.eye(2)))
    assert not found.needed
    assert np.abs(found.matrix - np.eye(2)).max() < 0.01 and found.significance < 5


def test_spots_apart_say_nothing(scan: Scan) -> None:
    prepared = warped(make('cells', 'defocused', 1e5, step=33.0), 1.02 * np.eye(2))
    found = estimate(prepared)
    assert not found.needed and found.gain < 1e-3


def test_an_object_without_structure_says_nothing(scan: Scan) -> None:
    prepared = warped(scan, np.eye(2))
    found = estimate_affine(prepared, np.ones(prepared.layout.shape, dtype=np.complex64))
    assert np.isinf(found.errors).all() and np.array_equal(found.matrix, np.eye(2)) and not found.needed


def test_scale_and_rotation_are_read_from_the_matrix() -> None:
    found = AffineMap(1.1 * turn(3.0), np.full((2, 2), 0.01), 0.1)
    assert found.scale == pytest.approx(1.1) and found.rotation == pytest.approx(3.0)
    assert found.significance == pytest.approx(100 * (1.1 * np.cos(np.radians(3.0)) - 1))
    assert found.needed and not replace(found, gain=1e-4).needed
