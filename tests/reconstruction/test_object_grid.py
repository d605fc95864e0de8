"""Results on the pixel grid of the scan's object, compared without registration (specs/units_and_axes.md, U11)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_scan, write_diffraction, write_npz, write_product
from ptychopinn_reconstructor.physics.geometry import fourier_shift, place_on_canvas, scan_area
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.result import Reconstruction
from ptychopinn_reconstructor.scan import Scan

N, SHAPE = 32, (104, 104)
LETTERS = (
    '####.####.',
    '#....#...#',
    '###..####.',
    '#....#..#.',
    '#....#...#',
)
MOVED = np.array([123.4375, -51.15625])  # an origin of positions that is no whole pixel
Image = NDArray[np.complex64]


def letters() -> Image:
    """An F and an R beside each other: absorbing and dense, equal to no flipped or transposed image of themselves."""
    ink = np.array([[letter == '#' for letter in row] for row in LETTERS], dtype=float)
    drawn = np.zeros(SHAPE)
    drawn[27:77, 22:82] = np.kron(ink, np.ones((10, 6)))
    drawn = ndimage.gaussian_filter(drawn, 1.2)
    return np.asarray((1 - 0.25 * drawn) * np.exp(0.9j * drawn), dtype=np.complex64)


@pytest.fixture(scope='module')
def scan() -> Scan:
    """Positions anywhere between the pixels, given from an origin that is no whole pixel either."""
    rng = np.random.default_rng(8)
    grid = np.stack(np.divmod(np.arange(225), 15), axis=1) * 4.7 + 18.3
    centers = grid + rng.uniform(-0.8, 0.8, grid.shape)
    simulated = simulate(n=N, positions=centers, object=letters(), photons=1e6, seed=1)
    row, col = -MOVED
    return replace(simulated, positions=centers + MOVED, object_origin=(row, col), on_object_grid=True)


def reconstructed(scan: Scan) -> Reconstruction:
    """The classical engine: no network, no registration."""
    return pp.refine(scan, Config().merged({'refinement': {'passes': 30}})).reconstruction


def pasted(scan: Scan) -> Image:
    """The engine's object on the canvas of the scan's object."""
    found = reconstructed(scan)
    return place_on_canvas(found.object, found.origin, SHAPE, scan.object_origin)


def error(scan: Scan, image: Image, truth: Image) -> float:
    """Root mean square difference inside the scan after the global phase alone."""
    area = scan_area(scan.positions, scan.object_origin, margin=6)
    a, b = image[area], truth[area]
    return float(np.sqrt(np.mean(np.abs(a * np.exp(-1j * np.angle(np.vdot(b, a))) - b) ** 2)))


def shifted(truth: Image, row: float, col: float) -> Image:
    """The truth by a part of a pixel somewhere else."""
    return np.asarray(fourier_shift(truth, np.array([row, col])), dtype=np.complex64)


def test_a_result_lies_on_the_objects_grid_pixel_by_pixel(scan: Scan) -> None:
    """U11: as close to the truth as after registration; another orientation or half a pixel off is clearly further."""
    truth, found = letters(), pasted(scan)
    here = error(scan, found, truth)
    registered = compare(found, scan.object_origin, truth, scan.object_origin, scan.positions, margin=6)
    after = float(np.sqrt(np.mean(np.abs(registered.result - registered.truth) ** 2)))
    assert registered.alignment.distance < 0.02
    # Registration also removes a phase ramp, in which the engine's noise collects: without it nothing may be left.
    rows, cols = np.indices(SHAPE)
    ramp = registered.alignment.ramp
    level = found * np.exp(-1j * (ramp[0] * rows + ramp[1] * cols))
    assert here < 0.008 and error(scan, level, truth) < 1.05 * after + 1e-4
    assert np.hypot(*ramp) * SHAPE[0] < 0.03  # radians from edge to edge
    wrong = {
        'up-down': truth[::-1],
        'left-right': truth[:, ::-1],
        'turned': truth[::-1, ::-1],
        'transposed': truth.T,
        'conjugate': truth.conj(),
        'half a row': shifted(truth, 0.5, 0.0),
        'half a column': shifted(truth, 0.0, -0.5),
        'a row': np.roll(truth, 1, axis=0),
        'a column': np.roll(truth, -1, axis=1),
    }
    errors = {name: error(scan, found, other) for name, other in wrong.items()}
    assert min(errors.values()) > 6 * here, (here, errors)
    assert error(scan, found, shifted(truth, 0.1, -0.1)) > 2 * here


def test_without_the_flag_the_canvas_begins_at_the_smallest_position(scan: Scan) -> None:
    """U11, OFFSETS: such a result is on no object's grid, and a constant added to its positions changes no value."""
    plain = replace(scan, on_object_grid=False)
    found = reconstructed(plain)
    with pytest.raises(ScanError, match='no whole pixels'):
        place_on_canvas(found.object, found.origin, SHAPE, plain.object_origin)
    moved = replace(plain, positions=scan.positions + np.array([3.3, -7.9]))
    assert np.array_equal(reconstructed(moved).object, found.object)


def test_noise_in_the_positions_changes_no_bit() -> None:
    """U11: positions at whole, half and quarter pixels that come through meters."""
    centers = np.stack(np.divmod(np.arange(81), 9), axis=1) * 4.25 + 20.0
    exact = replace(simulate(n=N, positions=centers, object=letters(), photons=1e5, seed=2), on_object_grid=True)
    rng = np.random.default_rng(3)
    first = reconstructed(exact)
    for _ in range(2):
        noisy = replace(exact, positions=centers + rng.uniform(-1e-12, 1e-12, centers.shape))
        other = reconstructed(noisy)
        assert np.array_equal(first.object, other.object) and first.origin == other.origin


def test_the_flag_needs_no_object(scan: Scan) -> None:
    """U11: object_origin alone tells the grid."""
    alone = prepare_scan(replace(scan, object=None)).layout
    with_object = prepare_scan(scan).layout
    assert (alone.origin, alone.shape) == (with_object.origin, with_object.shape)
    np.testing.assert_array_equal(alone.fractions, with_object.fractions)


@pytest.mark.parametrize('kind', ['hdf5', 'npz'])
def test_a_scan_read_from_a_file_gives_a_result_on_the_files_grid(scan: Scan, tmp_path: Path, kind: str) -> None:
    """U11, D16, D32: the same object through meters and through the NPZ contract."""
    if kind == 'hdf5':
        pytest.importorskip('h5py')
        assert scan.probe is not None
        product = Reconstruction(letters(), scan.object_origin, scan.probe, scan.positions, pixel_size=(7.1e-9, 6.3e-9))
        write_product(tmp_path / 'product.h5', product)
        write_diffraction(tmp_path / 'diffraction.h5', scan.diffraction)
        back = read_scan(tmp_path).scan
    else:
        write_npz(tmp_path / 'scan.npz', scan)
        back = read_scan(tmp_path / 'scan.npz').scan
    assert back.on_object_grid
    found = pasted(back)
    assert error(back, found, letters()) < 0.008
    np.testing.assert_allclose(found, pasted(scan), atol=1e-3)
    assert min(error(back, found, shifted(letters(), *by)) for by in ((0.5, 0.0), (0.0, 0.5))) > 0.03
