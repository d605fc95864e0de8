"""Strain that positions and object share: a known one is seen, a true scan has none, refined positions gain by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.splines import Splines
from ptychopinn_reconstructor.physics.engine.strain import Strain, estimate_strain, middles, strain_passes
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

SIZE = 0.4  # pixels, of a bend


@pytest.fixture(scope='module')
def scan() -> Scan:
    return simulate(n=32, positions=196, step=4.0, photons=1e5, jitter=1.0, object='cells', seed=1)


def bend(places: NDArray[np.float64], extent: float) -> NDArray[np.float64]:
    """A smooth v (n, 2) of half a wave over the scan."""
    turn = np.pi * places / extent
    return SIZE * np.stack([np.sin(turn[:, 1]) * np.cos(turn[:, 0]), np.cos(turn[:, 1])], axis=1)


def bent(scan: Scan) -> tuple[PreparedScan, NDArray[np.float64]]:
    """A scan whose positions are off by a bend less its affine part, and that bend, in canonical order."""
    places = scan.positions - scan.positions.min(axis=0)
    off = bend(places, float(places.max()))
    terms = np.column_stack([np.ones(len(places)), places])
    off -= terms @ np.linalg.lstsq(terms, off, rcond=None)[0]
    prepared = prepare_scan(replace(scan, positions=scan.positions + off, object=None))
    return prepared, off[prepared.order]


def flat(prepared: PreparedScan) -> NDArray[np.complex64]:
    return np.ones(prepared.layout.shape, dtype=np.complex64)


def test_a_known_bend_is_seen(scan: Scan) -> None:
    """An object refined on bent positions is bent with them; most of the bend is what the patterns then ask for."""
    prepared, off = bent(scan)
    canvas = refine(prepared, flat(prepared), RefineOptions.for_scan(6)).canvas
    strain = estimate_strain(prepared, canvas, prepared.probe)
    assert strain is not None
    found = strain.at(middles(prepared))
    share = float((found * off).sum() / (off**2).sum())
    assert 0.4 < share < 1.2
    assert np.sqrt(((found - share * off) ** 2).sum(axis=1).mean()) < 0.6 * np.sqrt((off**2).sum(axis=1).mean())


def test_true_positions_have_hardly_any(scan: Scan) -> None:
    prepared = prepare_scan(replace(scan, object=None))
    canvas = refine(prepared, flat(prepared), RefineOptions.for_scan(12)).canvas
    strain = estimate_strain(prepared, canvas, prepared.probe)
    assert strain is None or np.abs(strain.at(middles(prepared))).mean() < 0.04


def test_an_object_moves_with_its_positions() -> None:
    """A plane wave's phase at p - v is what it was at p."""
    rows, cols = np.indices((40, 48), dtype=np.float64)
    smooth = Strain(0.5 * np.sin(rows / 9), 0.3 * np.cos(cols / 7))
    canvas = np.exp(1j * (0.2 * rows + 0.1 * cols)).astype(np.complex64)
    wanted = np.exp(1j * (0.2 * (rows + smooth.rows) + 0.1 * (cols + smooth.cols)))
    middle = (slice(4, -4), slice(4, -4))
    assert np.abs(smooth.relieve(canvas) - wanted)[middle].max() < 2e-3


def test_an_affine_map_is_left_to_the_alignment() -> None:
    rows, cols = np.indices((30, 40), dtype=np.float64)
    places = np.random.default_rng(0).uniform(0, 29, (50, 2))
    wave = 0.1 * np.sin(rows / 5)
    rest = Strain(wave + 0.02 * rows - 0.01 * cols + 1, wave + 0.03 * cols).without_affine_part(places)
    alone = Strain(wave, wave).without_affine_part(places)
    for found, wanted in zip(rest, alone, strict=True):
        assert np.abs(found - wanted)[:29, :29].max() < 1e-9


def test_two_functions_at_once_are_each_what_it_is_alone(scan: Scan) -> None:
    """Where slopes of one tell nothing of the other, the normal equations fall into two blocks."""
    prepared = prepare_scan(scan)
    splines, rng = Splines(prepared.layout, prepared.probe), np.random.default_rng(2)
    index, count = np.arange(len(prepared)), splines.count
    score, root = rng.normal(size=(len(index), 2, 2)), rng.normal(size=(len(index), 2, 2, 2))
    information = np.zeros((len(index), 2, 2, 2, 2))
    for f in (0, 1):
        information[:, f, :, f] = root[:, f] @ root[:, f].transpose(0, 2, 1)
    both = splines.normal(score, information, index)
    for f in (0, 1):
        alone = splines.normal(score[:, f : f + 1], information[:, f : f + 1, :, f : f + 1], index)
        part = slice(f * count, (f + 1) * count)
        assert np.abs(both.matrix.toarray()[part, part] - alone.matrix.toarray()).max() < 1e-9
        assert both.right[part] == pytest.approx(alone.right)
    assert not both.matrix.toarray()[:count, count:].any()


def test_passes_between_estimates_grow() -> None:
    assert sorted(strain_passes(6, 20)) == [6, 8, 10, 12, 15]
    assert sorted(strain_passes(6, 7)) == [] and max(strain_passes(6, 60)) < 59


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['cells', 'lines'])
def test_positions_that_are_all_off_are_found(kind: str) -> None:
    """1.4 pixels along each axis: 20 passes come within 2.5 dB of the phase on the true positions (before: 4 to 6)."""
    scan = simulate(n=64, positions=196, step=8.0, photons=1e5, jitter=2.0, object=kind, seed=3)
    assert scan.object is not None
    off = np.random.default_rng(3).normal(0, 1.4, scan.positions.shape)
    figures = []
    for positions, refined in ((scan.positions, False), (scan.positions + off, True)):
        prepared = prepare_scan(replace(scan, positions=positions, object=None))
        options = RefineOptions.for_scan(20, dose=100.0, refine_positions=refined)
        canvas = refine(prepared, flat(prepared), options).canvas
        found = compare(canvas, prepared.layout.origin, scan.object, (0.0, 0.0), scan.positions, margin=4)
        figures.append(found.phase_psnr)
    assert figures[1] > figures[0] - 2.5
