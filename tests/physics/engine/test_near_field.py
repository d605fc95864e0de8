"""The engine in the near field: an object, its long-range phase, positions and a probe from Fresnel patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.engine.local_slopes import tile_size, tile_slopes
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine, scan_dose
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.wavefront import long_range_phase
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.scoring.metrics import Comparison, compare
from ptychopinn_reconstructor.physics.simulation import simulate
from ptychopinn_reconstructor.scan import Scan

NUMBER = 0.05


def make_scan(number: float = NUMBER, *, photons: float = 4e6, n: int = 64, count: int = 49) -> Scan:
    return simulate.simulate(
        n=n, positions=count, step=n / 8, photons=photons, probe='diffuser', fresnel_number=number, seed=2
    )


@pytest.fixture(scope='module')
def scan() -> Scan:
    return make_scan()


def run(scan: Scan, options: RefineOptions | None = None) -> tuple[PreparedScan, Refined]:
    prepared = prepare_scan(scan)
    options = options or RefineOptions.for_scan(dose=scan_dose(prepared))
    return prepared, refine(prepared, np.ones(prepared.layout.shape, np.complex64), options)


def score(scan: Scan, prepared: PreparedScan, canvas: NDArray[np.complex64]) -> Comparison:
    assert scan.object is not None
    return compare(canvas, prepared.layout.origin, scan.object, (0.0, 0.0), scan.positions, margin=4)


def true_canvas(scan: Scan, prepared: PreparedScan) -> NDArray[np.complex64]:
    assert scan.object is not None
    row, col = np.rint(-np.array(prepared.layout.origin)).astype(int)
    height, width = prepared.layout.shape
    return scan.object[row : row + height, col : col + width]


def test_the_object_is_found_and_explains_the_patterns(scan: Scan) -> None:
    prepared, found = run(scan)
    quality = score(scan, prepared, found.canvas)
    assert quality.phase_psnr > 35 and quality.amplitude_psnr > 33
    assert 0.8 < residuals(prepared, found.canvas, found.probe).noise_ratio < 1.15
    assert found.background is None and found.intensity is None and not found.probe_asked_for


def test_tiles_tell_a_long_range_phase_that_passes_are_slow_to_find(scan: Scan) -> None:
    prepared = prepare_scan(scan)
    options = RefineOptions.for_scan(dose=scan_dose(prepared))
    without = refine(prepared, np.ones(prepared.layout.shape, np.complex64), replace(options, wavefront=False))
    _, found = run(scan, options)
    gained = score(scan, prepared, found.canvas).phase_psnr - score(scan, prepared, without.canvas).phase_psnr
    assert gained > 5


@pytest.mark.parametrize('number', [0.1, 0.02])
def test_tiles_tell_the_slope_where_they_are(number: float) -> None:
    """The object is right but for a wave of 115 pixels, whose slopes the tiles see, within what a curvature adds."""
    scan = make_scan(number, photons=4e7)
    prepared = prepare_scan(scan)
    rows = np.arange(prepared.layout.shape[0])[:, None]
    missing = 0.3 * np.sin(2 * np.pi * rows / 115) + np.zeros(prepared.layout.shape)
    canvas = true_canvas(scan, prepared) * np.exp(-1j * missing).astype(np.complex64)
    size = tile_size(prepared, prepared.probe)
    assert size == 8
    found = tile_slopes(prepared, canvas, prepared.probe, size)
    assert found.layout.corners.shape == (64 * len(prepared), 2)
    row, col = (found.layout.corners + size // 2).T
    along = np.stack([np.gradient(missing)[0][row, col], np.zeros(len(row))], axis=1)
    inner = np.repeat(np.pad(np.ones((4, 4), bool), 2).ravel(), len(prepared))
    b, h = found.slopes.gradient[inner], found.slopes.curvature[inner]
    told = (b * along[inner]).sum() / np.einsum('na,nab,nb->', along[inner], h, along[inner])
    assert told == pytest.approx(1.0, abs=0.1)
    phase = long_range_phase(*found)[20:-20, 20:-20]
    wanted = missing[20:-20, 20:-20]
    assert np.std((phase - wanted) - (phase - wanted).mean()) < 0.35 * wanted.std()


def test_displaced_positions_come_back(scan: Scan) -> None:
    """They are told absolutely: the object cannot follow all of them without the patterns moving."""
    rng = np.random.default_rng(0)
    wrong = scan.positions + rng.normal(0, 0.7, scan.positions.shape)
    moved = replace(scan, positions=wrong, object=None)
    prepared = prepare_scan(moved)
    options = RefineOptions.for_scan(20, dose=scan_dose(prepared), refine_positions=True)
    found = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options)
    assert found.displacements is not None
    ahead = (scan.positions - wrong)[prepared.order]
    error = (found.displacements - ahead) - (found.displacements - ahead).mean(axis=0)
    assert np.sqrt((error**2).mean()) < 0.15


def test_a_wrong_probe_is_improved(scan: Scan) -> None:
    """Its phase is known to a half only."""
    assert scan.probe is not None
    halved = np.abs(scan.probe) * np.exp(0.5j * np.angle(scan.probe))
    prepared = prepare_scan(replace(scan, probe=halved.astype(np.complex64), object=None))
    options = RefineOptions.for_scan(20, dose=scan_dose(prepared), refine_probe=True)
    found = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options)
    likeness = [
        abs(np.vdot(probe, scan.probe)) / np.linalg.norm(probe) / np.linalg.norm(scan.probe)
        for probe in (found.probe, prepared.probe)
    ]
    assert likeness[0] > 0.99 > likeness[1]
    assert residuals(prepared, found.canvas, found.probe).noise_ratio < 1.5
