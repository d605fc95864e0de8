"""Batches that sample a scan evenly: each position once, equal sizes, and no holes or clumps."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.engine.batches import even_sampling


def raster(side: int) -> np.ndarray:
    rows, cols = np.divmod(np.arange(side**2), side)
    return np.stack([rows, cols], axis=1).astype(float)


@pytest.mark.parametrize(('n', 'count'), [(1, 1), (7, 7), (20, 3), (100, 9), (516, 24)])
def test_every_position_is_in_one_batch_of_nearly_equal_size(n: int, count: int) -> None:
    positions = np.random.default_rng(n).normal(size=(n, 2)) * [10, 50]
    batches = even_sampling(positions, count, np.random.default_rng(0))
    assert len(batches) == count
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(n))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert all((np.diff(batch) > 0).all() for batch in batches)


def test_positions_that_coincide_are_shared_out_too() -> None:
    batches = even_sampling(np.zeros((10, 2)), 3, np.random.default_rng(0))
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(10))


def unevenness(positions: np.ndarray, batch: np.ndarray, cells: int, side: int) -> float:
    """Variance of the number of positions in equal cells of the scan, over its mean: 1 for a drawing by lot."""
    rows, cols = (positions[batch] * cells / side).astype(int).T
    counts = np.bincount(rows * cells + cols, minlength=cells**2)
    return float(counts.var() / counts.mean())


def test_each_batch_samples_the_whole_scan_evenly() -> None:
    side, cells = 32, 8
    positions = raster(side)
    even = even_sampling(positions, 16, np.random.default_rng(0))
    lots = np.array_split(np.random.default_rng(0).permutation(side**2), 16)
    found, drawn = ([unevenness(positions, batch, cells, side) for batch in batches] for batches in (even, lots))
    assert max(found) < 0.6 < min(drawn)
    assert np.mean(found) < 0.5 and np.mean(drawn) > 0.8


def halved(positions: np.ndarray, part: np.ndarray) -> list[int]:
    """The curve as it is defined: a part is halved across its longer side, then each half."""
    if len(part) < 2:
        return [int(index) for index in part]
    inside = positions[part]
    axis = int(np.ptp(inside[:, 1]) > np.ptp(inside[:, 0]))
    ranked = part[np.argsort(inside[:, axis], kind='stable')]
    middle = len(ranked) // 2
    return halved(positions, ranked[:middle]) + halved(positions, ranked[middle:])


@pytest.mark.parametrize('n', [1, 2, 3, 17, 100, 516])
@pytest.mark.parametrize('rounded', [False, True], ids=['anywhere', 'many coincide'])
def test_the_curve_visits_the_scan_by_nested_halves(n: int, rounded: bool) -> None:
    positions = np.random.default_rng(n).normal(size=(n, 2)) * [3, 5]
    positions = np.round(positions) if rounded else positions
    generator, count = np.random.default_rng(1), min(n, 5)
    angle = generator.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    curve = np.array(halved(positions @ turn, np.arange(n)))
    expected = [np.sort(curve[start::count]) for start in generator.permutation(count)]
    found = even_sampling(positions, count, np.random.default_rng(1))
    assert all(np.array_equal(batch, other) for batch, other in zip(found, expected, strict=True))


def test_passes_differ_and_seeds_repeat() -> None:
    positions = raster(12)
    generator = np.random.default_rng(3)
    first, second = (even_sampling(positions, 6, generator) for _ in range(2))
    again = even_sampling(positions, 6, np.random.default_rng(3))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert {tuple(batch) for batch in first} != {tuple(batch) for batch in second}
