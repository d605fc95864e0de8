"""Patterns and positions that arrive apart meet by index, each once; what does not fit is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptychopinn_reconstructor.errors import OutputError, ScanError
from ptychopinn_reconstructor.io.scratch import Scratch
from ptychopinn_reconstructor.live.arrivals import Arrivals


def _patterns(*numbers: int) -> np.ndarray:
    return np.stack([np.full((16, 16), number, np.uint16) for number in numbers])


def test_each_meets_its_partner_once() -> None:
    arrivals = Arrivals()
    assert arrivals.add_patterns(_patterns(5, 3, 9), np.array([5, 3, 9])) == []
    assert arrivals.add_positions([[3.0, 30], [4.0, 40]], np.array([3, 4])) == [3]
    assert arrivals.add_patterns(_patterns(4, 3), np.array([4, 3])) == [4]
    assert arrivals.add_positions([[3.5, 0], [9.0, 90], [9.0, 91]], np.array([3, 9, 9])) == [9]
    pairs = arrivals.pairs()
    assert pairs.tolist() == [3, 4, 9] and arrivals.positions(pairs).tolist() == [[3, 30], [4, 40], [9, 90]]
    stored = arrivals.patterns
    assert stored is not None
    assert stored[arrivals.rows(pairs)][:, 0, 0].tolist() == [3, 4, 9]
    assert arrivals.count() == (4, 3, 3, 3)


def test_without_an_index_both_are_counted_from_the_first() -> None:
    arrivals = Arrivals()
    assert arrivals.add_patterns(_patterns(0, 1, 2)) == []
    assert arrivals.add_positions([[0.0, 1], [2.0, 3]]) == [0, 1]
    assert arrivals.add_positions([4.0, 5]) == [2]
    assert arrivals.add_patterns(_patterns(3)[0]) == []


def test_a_position_that_is_not_finite_may_come_again() -> None:
    arrivals = Arrivals()
    arrivals.add_patterns(_patterns(0, 1))
    assert arrivals.add_positions([[np.nan, 0.0], [1.0, 1.0]], np.array([0, 1])) == [1]
    assert arrivals.add_positions([[2.0, 0.0]], np.array([0])) == [0]


def test_what_does_not_fit_is_refused() -> None:
    arrivals = Arrivals()
    with pytest.raises(ScanError, match=r'shape \(2, 3, 4\) and type float64; expected \(k, N, N\)'):
        arrivals.add_patterns(np.zeros((2, 3, 4)))
    arrivals.add_patterns(_patterns(1))
    with pytest.raises(ScanError, match=r'shape \(8, 8\) arrive after others of \(16, 16\)'):
        arrivals.add_patterns(np.zeros((1, 8, 8)))
    with pytest.raises(ScanError, match='uint32 arrive after others of uint16, which cannot hold'):
        arrivals.add_patterns(np.full((1, 16, 16), 70_000, np.uint32))
    with pytest.raises(ScanError, match=r'index has shape \(2,\) and type int64; expected 1 integers'):
        arrivals.add_patterns(_patterns(1), np.array([1, 2]))
    with pytest.raises(ScanError, match=r'positions have shape \(1, 3\)'):
        arrivals.add_positions([[1.0, 2, 3]])
    assert arrivals.add_patterns(np.full((1, 16, 16), 7.0)) == []  # of another type that this one can hold
    assert arrivals.count().patterns == 2


def test_scratch_is_read_as_an_array_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = Scratch(np.float32, (2, 3), tmp_path, 'Values')
    values = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    scratch.append(values[:2])
    scratch.append(values[2:])
    assert scratch.shape == (5, 2, 3) and np.array_equal(scratch[[4, 0, 0]], values[[4, 0, 0]])
    assert np.array_equal(scratch[1:, 0], values[1:, 0]) and np.array_equal(np.asarray(scratch), values)
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_named() -> None:
    with pytest.raises(OutputError, match=r'Values need 0 MiB of scratch space but /nowhere/at/all is no folder'):
        Scratch(np.float32, (2, 3), Path('/nowhere/at/all'), 'Values')
