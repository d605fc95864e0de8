"""What is done for a live object between arrivals, in slices: synchronization, slopes, engine batches.

Everything here is a generator that has done a few hundredths of a second of work when it yields. The canvas may have
got further patches by then, and may have grown.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..physics.engine.batches import even_sampling
from ..physics.engine.sloped_waves import Slopes, slopes
from ..physics.engine.update import Engine, ObjectStep
from ..physics.engine.wavefront import FEWEST, long_range_phase
from ..physics.stitching.count_scale import count_gauge
from ..physics.stitching.stitch import neighbor_pairs, overlaps
from ..physics.stitching.synchronizing import synchronizing_phases
from ..reconstruction.network_object import amplitude_correction
from .canvas import LiveCanvas
from .mosaic import Cell, Mosaic

SLICE = 8  # patterns of 128 x 128 pixels: a few hundredths of a second
PAIRS = 256  # overlaps in a slice
LARGEST_CELL = 32  # patterns visited at a time, which are in memory
GAUGED = 64  # patterns that tell the amplitude
FIRST_SYNCHRONIZATION = 8  # patches; again whenever there are twice as many


def settle(mosaic: Mosaic, neighbors: int, generator: np.random.Generator) -> Iterator[None]:
    """All that there is to do by now: the whole synchronization when there are twice as many patches as at the last,
    and passes of the engine where it was least often, with slopes after the first, second, fourth ... of them."""
    slopes_due = 1.0
    while True:
        if len(mosaic) >= max(FIRST_SYNCHRONIZATION, 2 * mosaic.synchronized):
            yield from synchronize(mosaic, neighbors)
            yield from correct_slopes(mosaic)
            slopes_due = 1.0
        cell = mosaic.find_least_visited()
        if cell is None:
            return
        if mosaic.visits[cell] >= slopes_due:
            yield from correct_slopes(mosaic)
            slopes_due *= 2
        yield from refine_cell(mosaic, cell, generator)


def synchronize(mosaic: Mosaic, neighbors: int) -> Iterator[None]:
    """Stitch all patches anew, in the phases that all of their overlaps ask for."""
    first, count = mosaic.settled, len(mosaic) - mosaic.settled
    yield from (measured := _Overlaps(mosaic, count, neighbors)).measure()
    phases = measured.phases()
    fresh = mosaic.canvas.emptied() if mosaic.base is None else mosaic.base.copy()
    done = 0
    while done < len(mosaic) - first:
        # What has come meanwhile, behind `count`, is laid on as it fits.
        end = min(done + SLICE, count if done < count else len(mosaic) - first)
        _lay_on(fresh, mosaic, np.arange(done, end), phases[done:end] if done < count else None)
        done = end
        yield
    if mosaic.base is None:
        fresh.normalize()
        factor = _measure_gauge(mosaic, fresh)
        fresh.normalize(factor)
        mosaic.scale *= factor
    mosaic.canvas, mosaic.synchronized = fresh, len(mosaic)
    mosaic.visits = {cell: 0.0 for cell in mosaic.visits}
    yield


class _Overlaps:
    """c_ij of neighboring patches from number `settled` on, and of each with the base, the last of all nodes."""

    def __init__(self, mosaic: Mosaic, count: int, neighbors: int) -> None:
        self.mosaic, self.count = mosaic, count
        self.corners = np.array(mosaic.corners[mosaic.settled :][:count]).reshape(-1, 2)
        self.pairs = neighbor_pairs(self.corners, neighbors, mosaic.setting.size)
        self.values: list[NDArray[np.complex128]] = []

    def measure(self) -> Iterator[None]:
        local = np.zeros(self.count, dtype=np.int64)
        for start in range(0, len(self.pairs), PAIRS):
            part = self.pairs[start : start + PAIRS]
            needed = np.unique(part)
            local[needed] = np.arange(len(needed))
            u = self.mosaic.patches.read(needed)
            self.values.append(overlaps(u, self.corners, part, local))
            yield
        base = self.mosaic.base
        if base is None:
            return
        base.grow(self.corners)
        numbers = np.arange(self.count)
        for start in range(0, self.count, PAIRS):
            part = numbers[start : start + PAIRS]
            u = self.mosaic.patches.read(part)
            found = [base.overlap(one, corner) for one, corner in zip(u, self.corners[part], strict=True)]
            self.values.append(np.conj(np.array(found, dtype=np.complex128)))
            yield
        self.pairs = np.concatenate([self.pairs, np.stack([numbers, np.full_like(numbers, self.count)], axis=1)])

    def phases(self) -> NDArray[np.float64]:
        """Phase (count,) that each patch carries, relative to the base where there is one."""
        c = np.concatenate([np.zeros(0, np.complex128), *self.values])
        touching = np.abs(c) > 0
        found = synchronizing_phases(c[touching], self.pairs[touching], self.count + 1)
        return np.asarray(found[: self.count] - found[self.count])


def _lay_on(canvas: LiveCanvas, mosaic: Mosaic, numbers: NDArray[np.int64], phases: NDArray[np.float64] | None) -> None:
    there = mosaic.layout(numbers + mosaic.settled, (np.zeros(2, np.int64), np.zeros(2, np.int64)))
    canvas.grow(there.corners)
    u = (mosaic.patches.read(numbers) * np.float32(mosaic.scale)).astype(np.complex64)
    canvas.add(u, mosaic.setting.shifted_weight(there.fractions), there.corners, phases)


def _measure_gauge(mosaic: Mosaic, canvas: LiveCanvas) -> float:
    """The factor on the amplitude that the counts ask for, 1 where that would be too much."""
    area = canvas.begin, canvas.begin + canvas.shape
    sample = mosaic.prepare(mosaic.sample(GAUGED), area)
    return 1.0 if sample is None else amplitude_correction(count_gauge(sample, canvas.object()))[0]


def correct_slopes(mosaic: Mosaic) -> Iterator[None]:
    """Turn the object by the long-range phase that its patterns ask for."""
    count = len(mosaic)
    if count < FEWEST:
        return
    found = Slopes(np.zeros((count, 2)), np.zeros((count, 2, 2)))
    for cell in list(mosaic.cells):
        numbers = np.array([number for number in mosaic.cells[cell] if number < count], dtype=np.int64)
        for part in np.array_split(numbers, max(1, len(numbers) // SLICE)):
            area = mosaic.area(part) if len(part) else None
            if area is not None and (prepared := mosaic.prepare(part, area)) is not None:
                of_part = slopes(prepared, mosaic.canvas.crop(*area), mosaic.setting.probe)
                found.gradient[part], found.curvature[part] = of_part
            yield
    first, last = mosaic.whole()
    layout, held = mosaic.layout(np.arange(count), (first, last)), mosaic.base or mosaic.canvas
    held.grow(np.stack([first, last - held.n_pixels]))
    # What is settled keeps its phase; the rest follows it.
    mosaic.canvas.turn(long_range_phase(layout, found, mosaic.setting.probe), held.weight_between(first, last))
    yield


def refine_cell(mosaic: Mosaic, cell: Cell, generator: np.random.Generator) -> Iterator[None]:
    """A pass of the engine over the patterns of a cell, each batch on the canvas as it is by then."""
    numbers = np.sort(generator.permutation(np.array(mosaic.cells[cell]))[:LARGEST_CELL])
    area = mosaic.area(numbers)
    visited = len(numbers) / len(mosaic.cells[cell])
    prepared = mosaic.prepare(numbers, area)
    if prepared is not None:
        engine = Engine(prepared, mosaic.canvas.crop(*area), mosaic.setting.probe, mosaic.step)
        for batch in even_sampling(prepared.positions, -(-len(numbers) // SLICE), generator):
            engine.canvas = mosaic.canvas.crop(*area)
            engine.update(batch, ObjectStep(), with_probe=False)
            engine.limit_amplitude()
            mosaic.canvas.replace(area[0], engine.canvas)
            yield
    mosaic.visits[cell] += visited
    yield
