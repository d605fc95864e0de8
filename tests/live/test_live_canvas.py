"""The canvas of a live scan: patches of any phase make one object, wherever it grows to."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.live.canvas import LiveCanvas

N, SIDE = 16, 8  # of windows, and of the patches in their middle


def _object(shape: tuple[int, int] = (60, 60)) -> NDArray[np.complex64]:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    values = (1 + 0.3 * np.sin(rows / 5)) * np.exp(1j * np.cos(cols / 4) * np.sin(rows / 6))
    return np.asarray(values, dtype=np.complex64)


def _patches(
    truth: NDArray[np.complex64], corners: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """u of windows at these corners, each with a phase of its own, under an even light."""
    inset, phases = (N - SIDE) // 2, np.random.default_rng(seed).uniform(-np.pi, np.pi, len(corners))
    u = [truth[row + inset : row + inset + SIDE, col + inset : col + inset + SIDE] for row, col in corners]
    turned = np.stack(u) * np.exp(1j * phases)[:, None, None]
    return turned.astype(np.complex64), np.ones((len(corners), SIDE, SIDE), np.float32)


def _raster(first: int, last: int, step: int = 3) -> NDArray[np.int64]:
    rows, cols = np.meshgrid(np.arange(first, last, step), np.arange(first, last, step), indexing='ij')
    return np.stack([rows.ravel(), cols.ravel()], axis=1)


def _canvas() -> LiveCanvas:
    return LiveCanvas.about(np.full(2, (N - 1) / 2), N, 1e-6)


@pytest.mark.parametrize('order', ['as they lie', 'shuffled'])
def test_patches_of_any_phase_make_one_object(order: str) -> None:
    """Shuffled, too, where the first patch is laid on first and the others one by one beside it."""
    truth, corners, canvas = _object(), _raster(0, 40), _canvas()
    if order == 'shuffled':  # so that each touches one before it
        corners = corners[np.argsort(np.abs(corners - 20).sum(axis=1) + np.random.default_rng(1).uniform(0, 3))]
    for part in np.array_split(np.arange(len(corners)), 9):
        canvas.grow(corners[part])
        canvas.add(*_patches(truth, corners[part], seed=int(part[0])), corners[part])
    first, last = np.array([4, 4]), np.array([40 + 4, 40 + 4])
    found, true = canvas.crop(first, last), truth[4:44, 4:44]
    phase = np.angle(np.vdot(true, found))
    assert np.abs(found * np.exp(-1j * phase) - true).max() < 1e-5


def test_growing_to_all_sides_moves_nothing() -> None:
    truth, canvas = _object(), _canvas()
    corners = np.array([[20, 20]])
    canvas.grow(corners)
    canvas.add(*_patches(truth, corners), corners)
    before, origin = canvas.object(), np.array(canvas.origin)
    place = np.array([20.0 + 7, 20.0 + 7])
    value = before[tuple((place + origin).astype(int))]
    for corner in ([3, 20], [20, 41], [44, 2]):
        canvas.grow(np.array([corner]))
    assert canvas.shape == (44 - 3 + N, 41 - 2 + N) and canvas.begin.tolist() == [3, 2]
    assert canvas.object()[tuple((place + canvas.origin).astype(int))] == value
    assert np.all(canvas.object()[:10] == 1)


def test_what_is_known_better_moves_less() -> None:
    canvas, corners = _canvas(), np.array([[0, 0]])
    canvas.grow(corners)
    u, light = np.full((1, SIDE, SIDE), 3.0, np.complex64), np.full((1, SIDE, SIDE), 3.0, np.float32)
    canvas.add(u, light, corners)
    canvas.add(2 * u / 3, light / np.float32(3), corners)  # an object of 2, where a third of the light fell
    inside = canvas.object()[4:12, 4:12]
    assert inside == pytest.approx(np.full((SIDE, SIDE), (3 + 2) / 4), abs=1e-5)


def test_an_object_put_in_place_comes_out_again() -> None:
    values = _object((50, 40))
    canvas = LiveCanvas.of_object(values, (3.25, -2.5), np.ones(values.shape, np.float32), N, 1e-3)
    assert np.abs(canvas.object() - values).max() < 1e-6 and canvas.origin == (3.25, -2.5)
    corners, fractions = canvas.place(np.array([[10.0, 20.0]]))
    assert (corners + fractions).tolist() == [[10 + 3.25 - 7.5, 20 - 2.5 - 7.5]] and np.abs(fractions).max() <= 0.5


def test_a_position_far_from_all_others_is_not_reached() -> None:
    canvas = _canvas()
    corners = np.concatenate([_raster(0, 30), [[100_000, 0]]])
    assert canvas.reaches(corners).tolist() == [True] * (len(corners) - 1) + [False]
    canvas.grow(_raster(0, 30))
    assert canvas.reaches(np.array([[400, 0], [-600, 5], [0, 40]])).tolist() == [True, False, True]
