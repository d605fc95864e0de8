"""Results on the pixels of the first one, what they differ, values along a line, results that change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.errors import InputError, ScanError
from ptychopinn_reconstructor.io import ObjectFile, write_product
from ptychopinn_reconstructor.result import Reconstruction
from ptychopinn_reconstructor.viewer import series as module
from ptychopinn_reconstructor.viewer.placing import Difference, PlacedObject, place_objects, sample_line
from ptychopinn_reconstructor.viewer.series import Series

SCAN = small_scan()
assert SCAN.object is not None and SCAN.probe is not None
TRUTH = ObjectFile(SCAN.object, SCAN.object_origin, SCAN.positions, (1e-8, 1e-8), 32)


def change(factor: float = 1.0, shift: int = 0, ramp: float = 0.0, pad: int = 0) -> ObjectFile:
    """The truth with another amplitude, displaced by whole rows, with a ramp, on a larger canvas."""
    values = np.roll(TRUTH.object, shift, axis=0) * np.exp(1j * ramp * np.arange(TRUTH.object.shape[1])) * factor
    wide = np.pad(values, pad, constant_values=1.0).astype(np.complex64)
    return replace(TRUTH, object=wide, origin=(float(pad), float(pad)))


def test_others_are_laid_on_the_first() -> None:
    placed = place_objects({'one': TRUTH, 'other': change(factor=1.25, shift=2, ramp=0.02, pad=7)})
    one, other = placed['one'], placed['other']
    assert one.object.shape == other.object.shape and one.factor == 1.0 and one.shift == 0.0
    assert other.factor == pytest.approx(1.25, rel=5e-3) and other.shift == pytest.approx(2.0, abs=0.05)
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(other.amplitude - one.amplitude)[inner].max() < 0.05
    assert np.abs(other.phase - one.phase)[inner].max() < 0.05


def test_positions_of_another_result_do_not_count() -> None:
    """They may have been refined, or be in another order: the area is that of the first."""
    moved = replace(TRUTH, positions=SCAN.positions[:50] * 0.9)
    placed = place_objects({'one': TRUTH, 'other': moved})
    np.testing.assert_allclose(placed['other'].object, placed['one'].object, atol=5e-3)


def test_what_does_not_lie_there_is_refused_by_its_name() -> None:
    small = replace(TRUTH, object=TRUTH.object[:40, :40])
    with pytest.raises(InputError, match=r'^other: The scan covers rows .* of the result'):
        place_objects({'one': TRUTH, 'other': small})
    with pytest.raises(InputError, match=r'one holds no scan positions, .*name a product\.h5 first'):
        place_objects({'one': replace(TRUTH, positions=None)})


def test_a_difference_is_second_less_first() -> None:
    random = np.random.default_rng(0).normal(size=(2, 64, 64)).cumsum(axis=1).cumsum(axis=2) / 60
    values = ((1 + 0.1 * random[0]) * np.exp(0.3j * random[1])).astype(np.complex64)
    spot = np.ones((64, 64))
    spot[30:34, 40:44] = 1.2
    found = Difference.of(PlacedObject(values, 0.0), PlacedObject((values * spot).astype(np.complex64), 0.0))
    assert found.amplitude[32, 42] == pytest.approx(0.2 * abs(values[32, 42]), rel=0.15)
    assert abs(found.amplitude[10, 10]) < 0.02 and np.abs(found.phase).max() < 0.05
    same = Difference.of(PlacedObject(values, 0.0), PlacedObject(values, 0.0))
    assert same.frc.area == pytest.approx(1.0) and same.frc.frequency_half == 0.5
    assert found.frc.area < 0.95


def test_values_along_a_line() -> None:
    values = np.arange(20.0)[:, None] * 10 + np.arange(30.0)
    distance, line = sample_line(values, (2.0, 3.0), (6.0, 6.0))
    assert distance[-1] == 5.0 and len(line) == 6
    np.testing.assert_allclose(line, np.linspace(23, 66, 6))
    assert sample_line(values, (2.5, 3.0), (2.5, 3.0))[1] == pytest.approx([28.0, 28.0])


def write(path: Path, values: np.ndarray) -> None:
    result = Reconstruction(values.astype(np.complex64), (0.0, 0.0), SCAN.probe, SCAN.positions, (1e-8, 1e-8))  # type: ignore[arg-type]
    write_product(path, result)


def test_a_result_that_changes_gets_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'MOST_STEPS', 3)
    write(tmp_path / 'product.h5', TRUTH.object)
    series = Series(tmp_path)
    first = series.steps
    assert not series.look() and series.steps is first and len(first) == 1
    for number in range(3):
        write(tmp_path / 'product.h5', TRUTH.object * (number + 2))
        assert series.look()
    assert series.steps is not first and len(series.steps) == 3, 'the oldest has gone'
    assert abs(series.steps[-1].object[0, 0]) == pytest.approx(4 * abs(TRUTH.object[0, 0]), rel=1e-5)


def test_a_result_that_is_gone_or_damaged_keeps_its_steps(tmp_path: Path) -> None:
    path = tmp_path / 'product.h5'
    write(path, TRUTH.object)
    series = Series(path)
    path.write_bytes(b'half a file')
    assert not series.look() and len(series.steps) == 1
    path.unlink()
    assert not series.look()
    write(path, TRUTH.object * 2)
    assert series.look() and len(series.steps) == 2
    with pytest.raises(ScanError):
        Series(tmp_path / 'nothing.h5')
