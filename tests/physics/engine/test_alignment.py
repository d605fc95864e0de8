"""Aligning a whole scan: a map comes back with the refined positions, and only where it fits better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptychopinn_reconstructor.events import Event, Progress
from ptychopinn_reconstructor.physics.engine.alignment import (
    Alignment,
    Trial,
    affine_displacements,
    carry_object,
    fits_better,
    map_positions,
    map_scan,
)
from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.positions import Displacements
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.update import Engine
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.probes import make_probe
from ptychopinn_reconstructor.physics.simulation.simulate import simulate

OPTIONS = RefineOptions.for_scan(12, refine_positions=True)
STRETCHED = np.array([[1.03, -0.02], [0.02, 1.03]])


def make(matrix: np.ndarray) -> PreparedScan:
    probe = make_probe('defocused', 32)
    scan = simulate(n=32, positions=144, step=5.0, photons=1e5, jitter=1.0, object='cells', probe=probe, seed=1)
    center = scan.positions.mean(axis=0)
    return prepare_scan(replace(scan, positions=(scan.positions - center) @ matrix.T + center, object=None))


def flat(prepared: PreparedScan) -> np.ndarray:
    return np.ones(prepared.layout.shape, dtype=np.complex64)


def test_a_map_of_all_positions_comes_back() -> None:
    prepared, heard = make(STRETCHED), list[Event]()
    found = refine(prepared, flat(prepared), OPTIONS, emit=heard.append)
    assert found.affine is not None and found.displacements is not None
    assert found.affine @ STRETCHED == pytest.approx(np.eye(2), abs=0.004)
    right = prepared.positions + affine_displacements(prepared, np.linalg.inv(STRETCHED))
    left = prepared.positions + found.displacements - right
    assert np.sqrt((left**2).mean()) < 0.2 * np.sqrt(((right - prepared.positions) ** 2).mean())
    assert {event.stage for event in heard if isinstance(event, Progress)} >= {'refine', 'align'}
    good = make(np.eye(2))
    assert found.residuals[-1] < 1.1 * refine(good, flat(good), OPTIONS).residuals[-1]


def test_a_good_scan_is_left_as_it_is() -> None:
    prepared, heard = make(np.eye(2)), list[Event]()
    assert refine(prepared, flat(prepared), OPTIONS, emit=heard.append).affine is None
    assert {event.stage for event in heard if isinstance(event, Progress)} <= {'refine', 'wavefront'}


def test_a_job_is_stopped_while_it_aligns() -> None:
    prepared, heard = make(STRETCHED), list[Event]()

    def stop() -> bool:
        return any(isinstance(event, Progress) and event.stage == 'align' for event in heard)

    found = refine(prepared, flat(prepared), OPTIONS, emit=heard.append, should_stop=stop)
    assert found.stopped and found.canvas.shape == prepared.layout.shape and found.affine is None


def test_a_map_that_does_not_fit_better_is_not_kept() -> None:
    prepared = make(np.eye(2))

    def attempt(scan: PreparedScan, canvas: np.ndarray, probe: np.ndarray) -> Trial:
        found = refine(scan, canvas, RefineOptions.for_scan(6), probe=probe)
        return Trial(found.canvas, found.probe, replace(scan, background=found.background, intensity=found.intensity))

    def judge(scan: PreparedScan, matrix: np.ndarray) -> bool:
        aligned = Alignment(matrix, affine_displacements(scan, matrix), map_positions(scan, matrix), flat(scan))
        return fits_better(aligned, scan, flat(scan), scan.probe, attempt)

    assert not judge(prepared, np.linalg.inv(STRETCHED))
    assert judge(make(STRETCHED), np.linalg.inv(STRETCHED))


def test_a_map_is_taken_within_the_passes_too() -> None:
    """What is left of a map is taken with the object in hand, and what lay before it is not gone back to."""
    prepared = make(STRETCHED)
    canvas = refine(prepared, flat(prepared), RefineOptions.for_scan(6)).canvas
    engine = Engine(prepared, canvas, prepared.probe, FarFieldStep.for_scan(prepared))
    engine.displacements = Displacements(prepared.positions, 5.0)
    assert map_scan(engine)
    wanted = affine_displacements(prepared, np.linalg.inv(STRETCHED))
    found = engine.prepared.positions - prepared.positions
    assert 0.5 < float((found * wanted).sum() / (wanted**2).sum()) < 1.1
    assert np.array_equal(engine.displacements.positions, engine.prepared.positions)
    assert np.abs(engine.canvas - canvas).max() > 0.1


def test_an_object_is_carried_as_its_positions_are() -> None:
    """A smooth object at a mapped position is what it was at the position."""
    prepared = make(np.eye(2))
    rows, cols = np.indices(prepared.layout.shape) - (np.asarray(prepared.layout.shape)[:, None, None] - 1) / 2
    place = prepared.layout.corners + prepared.layout.fractions + 15.5
    carried = carry_object(np.exp(0.02j * rows + 0.03j * cols).astype(np.complex64), prepared, STRETCHED)
    center = place.mean(axis=0)
    middle = np.round(center + np.array([[5.0, -8.0], [-10.0, 3.0]])).astype(int)
    came_from = (middle - center) @ np.linalg.inv(STRETCHED).T + center
    offset = (np.asarray(prepared.layout.shape) - 1) / 2
    expected = np.exp(1j * ((came_from - offset) @ [0.02, 0.03]))
    assert carried[tuple(middle.T)] == pytest.approx(expected, abs=1e-4)
