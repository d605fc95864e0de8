"""The network that comes with the package: its file, and what it does with what no object of its training holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import VerificationError
from ptychopinn_reconstructor.physics.engine.options import RefineOptions, gains_by_learned_step
from ptychopinn_reconstructor.physics.engine.refine import refine, scan_dose
from ptychopinn_reconstructor.physics.learned.shipped import FILE, read_network, shipped_network
from ptychopinn_reconstructor.physics.learned.step import take_step
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import raster, simulate

PERIOD, SPREAD = 9.0, 1.8  # pixels, of a square lattice of dark particles and of one of them
MISSING = 10, 9


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert FILE.stat().st_size <= 2e6
    assert {'strength', 'seed', 'scans', 'steps', 'sha256'} <= set(shipped_network().description)
    assert 0 < shipped_network().strength <= 1


@pytest.mark.parametrize('changed', ['weight', 'answer'])
def test_a_file_that_was_changed_is_refused(tmp_path: Path, changed: str) -> None:
    with np.load(FILE, allow_pickle=False) as file:
        stored = dict(file)
    key = 'weights.head.bias' if changed == 'weight' else 'test.correction'
    stored[key] = stored[key] + stored[key].dtype.type(0.1)
    np.savez(tmp_path / 'step.npz', allow_pickle=False, **stored)
    with pytest.raises(VerificationError, match='damaged' if changed == 'weight' else 'self-test'):
        read_network(tmp_path / 'step.npz')


@pytest.mark.parametrize('photons', [1e3, 1e4])
def test_a_defect_of_a_lattice_survives(photons: float) -> None:
    """One particle of a lattice is missing; the step leaves the others, and puts none in its place."""
    truth = lattice((176, 176))
    centers = raster(49, 15.0, 2.0, 64, np.random.default_rng(1))
    prepared = prepare_scan(simulate(positions=centers, photons=photons, object=truth, probe='defocused', seed=2))
    options = RefineOptions.for_scan(12, dose=scan_dose(prepared), background='off', intensity='off')
    found = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options).canvas
    shipped = shipped_network()
    after = take_step(prepared, found, shipped.network, strength=shipped.strength).canvas
    offset = np.rint(prepared.layout.origin).astype(int)
    (gap, others), (gap_before, others_before) = (look_at_sites(image, offset) for image in (after, found))
    true_gap, true_others = look_at_sites(truth, np.zeros(2, dtype=np.int64))
    assert true_gap - true_others > 0.3 and gap_before - others_before > 0.15  # it can be seen
    assert gap - others > 0.9 * (gap_before - others_before)
    assert gap == pytest.approx(true_gap, abs=0.1)


def test_it_is_taken_where_it_gains() -> None:
    assert not gains_by_learned_step(dose=1000.0, overlap=0.6)
    assert gains_by_learned_step(dose=5.0, overlap=0.6)
    assert gains_by_learned_step(dose=100.0, overlap=0.3) and not gains_by_learned_step(dose=100.0, overlap=0.6)
    assert not gains_by_learned_step(dose=5.0, overlap=0.3)
    assert RefineOptions.for_scan(dose=5.0, overlap=0.6).learned_step
    assert not RefineOptions.for_scan(dose=5.0, overlap=0.6, learned_step='off').learned_step
    assert RefineOptions.for_scan(dose=1000.0, overlap=0.6, learned_step='on').learned_step


def lattice(shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Dark particles of which one is missing."""
    y, x = np.indices(shape)
    image = np.zeros(shape)
    for row, col in np.ndindex(*(int(size / PERIOD) + 1 for size in shape)):
        if (row, col) != MISSING:
            image += np.exp(-((y - row * PERIOD) ** 2 + (x - col * PERIOD) ** 2) / (2 * SPREAD**2))
    return np.asarray((1 - 0.4 * image) * np.exp(1j * (2 * image - 1)), dtype=np.complex64)


def look_at_sites(image: NDArray[np.complex64], offset: NDArray[np.int64]) -> tuple[float, float]:
    """Amplitude at the missing site, and the mean of those around it."""

    def amplitude(row: int, col: int) -> float:
        y, x = (round(number * PERIOD) + int(at) for number, at in zip((row, col), offset, strict=True))
        return float(np.abs(image[y - 1 : y + 2, x - 1 : x + 2]).mean())

    row, col = MISSING
    around = [amplitude(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    return amplitude(row, col), float(np.mean(around))
