"""Geometry: where patches lie on the canvas and which way they are shifted (specs/units_and_axes.md, U1 to U5)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.physics import geometry

N = 64
COORDINATES = st.floats(-300, 300, allow_nan=False, width=64)
POSITIONS = hnp.arrays(np.float64, st.tuples(st.integers(2, 9), st.just(2)), elements=COORDINATES)


def gaussian(center: tuple[float, float], width: float = 3.0) -> NDArray[np.complex128]:
    """exp(-r^2 / 2 width^2) around `center` [row, column] with a phase that tells the axes apart."""
    row, col = np.mgrid[:N, :N]
    y, x = row - center[0], col - center[1]
    return np.asarray(np.exp(-(y**2 + x**2) / (2 * width**2) + 1j * (0.2 * y - 0.1 * x)))


@pytest.mark.parametrize('f', [(0.3, -0.4), (-0.5, 0.5), (2.75, -1.25)])
def test_shift_moves_a_gaussian_by_plus_f(f: tuple[float, float]) -> None:
    """U2: against the analytic Gaussian at its new place."""
    moved = geometry.fourier_shift(gaussian((30.0, 33.5)), np.array(f))
    np.testing.assert_allclose(moved, gaussian((30.0 + f[0], 33.5 + f[1])), atol=1e-5)


@pytest.mark.parametrize('m', [(3, -5), (0, 7), (-11, 2)])
def test_shift_turns_a_plane_wave_by_minus_k_f(m: tuple[int, int]) -> None:
    """U2: a plane wave keeps its form and takes the factor exp(-2 pi i k f)."""
    f = np.array([0.3, -0.4])
    k = np.array(m) / N
    row, col = np.mgrid[:N, :N]
    wave = np.exp(2j * np.pi * (k[0] * row + k[1] * col))
    np.testing.assert_allclose(geometry.fourier_shift(wave, f), wave * np.exp(-2j * np.pi * (k @ f)), atol=1e-5)


def test_shift_by_whole_pixels_is_a_roll_and_takes_batches() -> None:
    """U2, for every image of a batch with its own offset."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(3, 16, 16)) + 1j * rng.normal(size=(3, 16, 16))
    offsets = np.array([[2.0, -3.0], [0.0, 0.0], [-1.0, 5.0]])
    moved = geometry.fourier_shift(images, offsets)
    for image, offset, found in zip(images, offsets.astype(int), moved, strict=True):
        np.testing.assert_allclose(found, np.roll(image, offset, axis=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(geometry.fourier_shift(moved, -offsets), images, atol=1e-5)


@settings(max_examples=60)
@given(POSITIONS)
def test_layout_puts_the_center_at_position_plus_origin(positions: NDArray[np.float64]) -> None:
    """U1, COVERAGE: the corner is the center less (N-1)/2, to a millionth of a pixel, and every patch fits."""
    found = geometry.layout(positions, N)
    index = positions + np.array(found.origin)
    np.testing.assert_allclose(found.corners + found.fractions, index - (N - 1) / 2, atol=1e-6)
    assert np.abs(found.fractions).max() <= 0.5
    np.testing.assert_array_equal(found.corners.min(axis=0), (0, 0))
    np.testing.assert_array_equal(found.corners.max(axis=0) + N, found.shape)


@settings(max_examples=60)
@given(POSITIONS, st.tuples(COORDINATES, COORDINATES))
def test_layout_on_the_grid_of_an_object(positions: NDArray[np.float64], origin: tuple[float, float]) -> None:
    """U11, COVERAGE: a whole number of pixels from the object, the center as in U1, every patch on the canvas."""
    found = geometry.layout(positions, N, origin)
    offset = np.array(found.origin) - np.array(origin)
    np.testing.assert_allclose(offset, np.rint(offset), rtol=0, atol=1e-9)
    center = positions + np.array(found.origin)
    np.testing.assert_allclose(found.corners + found.fractions, center - (N - 1) / 2, atol=1e-6)
    assert np.abs(found.fractions).max() <= 0.5
    np.testing.assert_array_equal(found.corners.min(axis=0), (0, 0))
    np.testing.assert_array_equal(found.corners.max(axis=0) + N, found.shape)


def test_layout_on_the_grid_of_an_object_by_hand() -> None:
    """U11: N = 4, so a patch at 10 + 3.25 begins at 11.75: pixel 12 of the object, a quarter of a pixel before it."""
    positions = np.array([[10.0, -3.0], [12.25, -3.0], [10.0, 0.75]])
    found = geometry.layout(positions, 4, (3.25, 20.5))
    np.testing.assert_array_equal(found.corners, [[0, 0], [2, 0], [0, 4]])
    np.testing.assert_allclose(found.fractions, np.array([[-0.25, 0], [0, 0], [-0.25, -0.25]]), atol=1e-12)
    assert found.origin == (3.25 - 12, 20.5 - 16)
    assert found.shape == (6, 8)


@pytest.mark.parametrize('n_pixels', [63, 64])
@pytest.mark.parametrize('start', [0.0, 0.25, 0.5, 1.5, -1234.5])
def test_noise_decides_nothing_on_the_grid_of_an_object(n_pixels: int, start: float) -> None:
    """U11, OFFSETS: to the last bit under noise of 1e-12, and with a constant moved from positions to origin."""
    rng = np.random.default_rng(4)
    exact = np.stack(np.divmod(np.arange(30), 6), axis=1) * 1.5 + start
    first = geometry.layout(exact, n_pixels, (0.0, 0.0))
    for noise in rng.uniform(-1e-12, 1e-12, (20, *exact.shape)):
        other = geometry.layout(exact + noise, n_pixels, (0.0, 0.0))
        np.testing.assert_array_equal(first.corners, other.corners)
        np.testing.assert_array_equal(first.fractions, other.fractions)
        assert (first.origin, first.shape) == (other.origin, other.shape)
    moved = geometry.layout(exact + np.array([17.3, -1e4]), n_pixels, (-17.3, 1e4))
    np.testing.assert_array_equal(first.corners, moved.corners)
    np.testing.assert_array_equal(first.fractions, moved.fractions)


def test_layout_by_hand() -> None:
    """U1: N = 4, three positions; origin, corners and fractions computed by hand."""
    found = geometry.layout(np.array([[10.0, -3.0], [12.25, -3.0], [10.0, 0.75]]), 4)
    assert found.origin == (-8.5, 4.5)
    np.testing.assert_array_equal(found.corners, [[0, 0], [2, 0], [0, 4]])
    np.testing.assert_allclose(found.fractions, np.array([[0, 0], [0.25, 0], [0, -0.25]]), atol=1e-12)
    assert found.shape == (6, 8)


@pytest.mark.parametrize('constant', [(0.3, -0.4), (17.25, 1e4), (-1e5 / 3, 1e-3)])
def test_a_constant_added_to_all_positions_changes_only_the_origin(constant: tuple[float, float]) -> None:
    """OFFSETS, to the last bit, half-pixel and tied positions included."""
    rng = np.random.default_rng(5)
    raster = np.stack(np.divmod(np.arange(30), 6), axis=1) * 4.5
    positions = np.concatenate([raster, rng.uniform(0, 20, (30, 2)).round(3)])
    first, second = geometry.layout(positions, 32), geometry.layout(positions + constant, 32)
    np.testing.assert_array_equal(first.corners, second.corners)
    np.testing.assert_array_equal(first.fractions, second.fractions)
    assert first.shape == second.shape
    moved = np.array(first.origin) - np.array(second.origin)
    np.testing.assert_allclose(moved, np.array(constant), atol=1e-9)
    np.testing.assert_array_equal(
        geometry.canonical_order(positions), geometry.canonical_order(positions + np.array(constant))
    )


def test_canonical_order_does_not_depend_on_the_order_of_the_file() -> None:
    """OFFSETS: rows first, then columns, rounding noise on a raster's rows ignored."""
    rng = np.random.default_rng(2)
    raster = np.stack(np.divmod(np.arange(40), 8), axis=1) * 3.0
    positions = raster + rng.uniform(-1e-8, 1e-8, raster.shape)
    shuffled = rng.permutation(40)
    np.testing.assert_array_equal(geometry.canonical_order(positions), np.arange(40))
    order = geometry.canonical_order(positions[shuffled])
    np.testing.assert_array_equal(shuffled[order], np.arange(40))


def test_positions_that_coincide_keep_the_order_of_the_file() -> None:
    """The third key is the index."""
    positions = np.array([[5.0, 1.0], [0.0, 2.0], [5.0, 1.0], [0.0, 2.0], [0.0, 1.0]])
    np.testing.assert_array_equal(geometry.canonical_order(positions), [4, 1, 3, 0, 2])


def test_too_large_a_canvas_is_refused() -> None:
    """A canvas that no memory holds is a wrong unit."""
    with pytest.raises(ScanError, match=r'33064 x 64 pixels.*object pixels'):
        geometry.layout(np.array([[0.0, 0.0], [33000.0, 0.0]]), N)


@pytest.mark.parametrize('inset', [0, 3])
def test_scatter_is_the_adjoint_of_gather(inset: int) -> None:
    """<scatter(x), y> = <x, gather(y)>, overlapping windows included."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 9, (12, 2))
    corners[1] = corners[0]
    size, shape = 7, (9 + 7 + inset, 9 + 7 + inset)
    patches, canvas = (rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((12, size, size), shape))
    scattered = np.zeros(shape, dtype=complex)
    geometry.scatter_patches(scattered, patches, corners, inset)
    gathered = geometry.gather_patches(canvas, corners, size, inset)
    np.testing.assert_allclose(np.vdot(scattered, canvas), np.vdot(patches, gathered), rtol=1e-12)


def test_gather_takes_the_window_at_the_corner() -> None:
    """U1: row first, the inset added to both axes."""
    canvas = np.arange(20 * 30).reshape(20, 30)
    found = geometry.gather_patches(canvas, np.array([[2, 5], [7, 0]]), 4, inset=1)
    np.testing.assert_array_equal(found[0], canvas[3:7, 6:10])
    np.testing.assert_array_equal(found[1], canvas[8:12, 1:5])
    assert geometry.patch_slice(np.array([2, 5]), 4, inset=1) == (slice(3, 7), slice(6, 10))


def test_a_result_on_the_canvas_of_an_object() -> None:
    """U11: each value keeps its position, 1 elsewhere, in the type of the result; the edges of the canvas count."""
    values = np.arange(2, 8, dtype=np.complex64).reshape(2, 3) * 1j
    found = geometry.place_on_canvas(values, (0.25, -4.0), (5, 6), (3.25, -1.0))
    expected = np.ones((5, 6), np.complex64)
    expected[3:5, 3:6] = values
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.complex64
    np.testing.assert_array_equal(geometry.place_on_canvas(values, (1 / 3, 0.1), (2, 3), (1 / 3 + 1e-9, 0.1)), values)


@pytest.mark.parametrize(
    ('object_origin', 'words'),
    [
        ((0.0, 0.5), 'no whole pixels'),
        ((1e-5, 0.0), 'no whole pixels'),
        ((-1.0, 0.0), 'rows -1 to 1'),
        ((0.0, -1.0), 'columns -1 to 2'),
        ((4.0, 0.0), 'rows 4 to 6'),
        ((0.0, 4.0), 'columns 4 to 7'),
    ],
)
def test_a_result_that_does_not_belong_on_the_canvas_is_refused(object_origin: tuple[float, float], words: str) -> None:
    """U11: another grid, or pixels beyond the canvas on any side; nothing is cut and nothing wraps around."""
    with pytest.raises(ScanError, match=words):
        geometry.place_on_canvas(np.zeros((2, 3)), (0.0, 0.0), (5, 6), object_origin)


def test_a_part_of_a_layout_stays_on_its_canvas() -> None:
    """U1: the patches chosen, in their order."""
    whole = geometry.layout(np.random.default_rng(0).uniform(0, 20, (9, 2)), N)
    part = whole.part(np.array([4, 1]))
    np.testing.assert_array_equal(part.corners, whole.corners[[4, 1]])
    np.testing.assert_array_equal(part.fractions, whole.fractions[[4, 1]])
    assert (part.origin, part.shape) == (whole.origin, whole.shape)


def test_scan_area_lies_between_the_outermost_centers() -> None:
    """The area on which results are compared (docs/method.md), whole pixels inside the centers."""
    positions = np.array([[0.0, -4.0], [10.5, 20.0], [3.0, 7.25]])
    rows, cols = geometry.scan_area(positions, (31.5, 35.5))
    assert (rows, cols) == (slice(32, 43), slice(32, 56))
    assert geometry.scan_area(positions, (31.5, 35.5), margin=4) == (slice(36, 39), slice(36, 52))
