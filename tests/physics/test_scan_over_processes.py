"""Several processes find what one finds: bit by bit what belongs to patterns, to rounding what is added up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from processes_in_threads import Group

from ptychopinn_reconstructor.errors import Interrupted
from ptychopinn_reconstructor.physics.arrays import NumpyArrays, map_shared
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.sloped_waves import slopes
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.processes import ALONE, Processes, own_part
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.physics.stitching.count_scale import count_gauge
from ptychopinn_reconstructor.physics.stitching.stitch import contributions, probe_weight, stitch_patches


def arrays_of(processes: Processes) -> NumpyArrays:
    """Arrays whose blocks are so small that a small scan has many."""
    arrays = NumpyArrays(1, processes)
    arrays.block_pixels = 2048
    return arrays


@pytest.fixture(scope='module')
def prepared() -> PreparedScan:
    scan = simulate(n=32, positions=100, step=4.0, photons=1e5, jitter=1.0, seed=1)
    counts = scan.diffraction + np.random.default_rng(2).poisson(0.5, scan.diffraction.shape)
    return prepare_scan(replace(scan, diffraction=counts.astype(np.uint32)))


def run(prepared: PreparedScan, options: RefineOptions, processes: Processes) -> Refined:
    empty = np.ones(prepared.layout.shape, np.complex64)
    return refine(prepared, empty, options, arrays=arrays_of(processes))


def apart(one: NDArray[np.complex64], other: NDArray[np.complex64]) -> float:
    """Rms of a difference, relative."""
    return float(np.sqrt((np.abs(one - other) ** 2).mean() / (np.abs(one) ** 2).mean()))


@pytest.mark.parametrize(('count', 'total'), [(7, 3), (2, 3), (0, 2), (16, 4)])
def test_parts_are_even_and_make_up_the_whole(count: int, total: int) -> None:
    group = Group(total)
    parts = group.run(lambda processes: own_part(count, processes))
    numbers = [number for part in parts if isinstance(part, range) for number in part]
    assert numbers == [*range(count)]
    assert {len(part) - count // total for part in parts if isinstance(part, range)} <= {0, 1}


def test_blocks_are_divided_and_handed_to_all_in_order() -> None:
    done: list[int] = []

    def compute(number: int) -> int:
        done.append(number)
        return number**2

    found = Group(3).run(lambda processes: [*map_shared(compute, iter(range(700)), NumpyArrays(1, processes))])
    assert found == [[number**2 for number in range(700)]] * 3
    assert sorted(done) == [*range(700)]


@pytest.mark.parametrize(
    'options',
    [
        RefineOptions(6, prior=1.0, wavefront=True, momentum=0.8, background='on', intensity='on'),
        RefineOptions(6, refine_probe=True, modes=2, refine_positions=True, wavefront=True),
    ],
    ids=['object and detector', 'probe and positions'],
)
def test_a_refinement_is_that_of_one_process_to_rounding(prepared: PreparedScan, options: RefineOptions) -> None:
    one = run(prepared, options, ALONE)
    several = Group(3).run(lambda processes: run(prepared, options, processes))
    for other in several:
        assert isinstance(other, Refined)
        assert apart(one.canvas, other.canvas) < 1e-5 and apart(one.probe, other.probe) < 1e-5
        assert other.residuals == pytest.approx(one.residuals, rel=1e-5)
        for name in ('displacements', 'background', 'intensity'):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(np.abs(ours).max()))
        first = several[0]
        assert isinstance(first, Refined) and np.array_equal(first.canvas, other.canvas)


def test_what_belongs_to_patterns_is_that_of_one_process_bit_by_bit(prepared: PreparedScan) -> None:
    canvas = run(prepared, RefineOptions(2), ALONE).canvas

    def find(processes: Processes) -> tuple[NDArray[np.float64], float, NDArray[np.float64], float]:
        arrays = arrays_of(processes)
        misfit = residuals(prepared, canvas, batch=7, arrays=arrays)
        asked = slopes(prepared, canvas, prepared.probe, arrays)
        return misfit.per_pattern, misfit.overall, asked.gradient, count_gauge(prepared, canvas, arrays=arrays)

    one = find(ALONE)
    for other in Group(2).run(find):
        assert not isinstance(other, Interrupted)
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize('half', [False, True])
def test_patches_that_no_process_has_all_of_are_stitched_as_by_one(prepared: PreparedScan, half: bool) -> None:
    """Each has those of its part alone; phases are bitwise the same, so that only sums are rounded otherwise."""
    n = prepared.patch_size
    rng = np.random.default_rng(3)
    drawn = 1 + 0.3 * (rng.normal(size=(len(prepared), n, n)) + 1j * rng.normal(size=(len(prepared), n, n)))
    drawn *= np.exp(2j * np.pi * rng.random(len(prepared)))[:, None, None]
    u = contributions(drawn, probe_weight(prepared.probe, n), prepared.layout.fractions)
    rows = np.arange(0, len(prepared), 2) if half else np.arange(len(prepared))

    def stitch(processes: Processes) -> tuple[NDArray[np.complex64], NDArray[np.float32] | None, float]:
        own = own_part(len(u), processes)
        mine = np.full_like(u, np.nan)
        mine[own.start : own.stop] = u[own.start : own.stop]
        stitcher = stitch_patches(
            mine,
            prepared.layout.part(rows),
            prepared.probe,
            neighbors=8,
            batches=np.array_split(np.arange(len(rows)), 9),
            rows=rows,
            spread=True,
            arrays=arrays_of(processes),
        )
        return stitcher.canvas(), stitcher.deviation(), stitcher.torn

    canvas, deviation, torn = stitch(ALONE)
    for other in Group(3).run(stitch):
        assert not isinstance(other, Interrupted) and other[1] is not None
        assert apart(canvas, other[0]) < 1e-6 and other[2] == torn
        assert deviation is not None
        np.testing.assert_allclose(other[1], deviation, rtol=2e-3, atol=1e-4)


def test_one_that_is_asked_to_stop_stops_all_at_the_same_place(prepared: PreparedScan) -> None:
    group = Group(2)

    def work(processes: Processes) -> Refined:
        def after_pass(number: int, _: NDArray[np.complex64]) -> None:
            group.asked |= {1} if number == 2 and processes.number else set()

        empty, options = np.ones(prepared.layout.shape, np.complex64), RefineOptions(50)
        return refine(prepared, empty, options, arrays=arrays_of(processes), after_pass=after_pass)

    assert all(isinstance(outcome, Interrupted) for outcome in group.run(work))
