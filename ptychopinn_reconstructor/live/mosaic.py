"""The patches of a live scan on its canvas, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Network
from ..io.scratch import Scratch
from ..physics.arrays import NUMPY
from ..physics.engine.far_field_step import FarFieldStep
from ..physics.engine.residuals import residuals
from ..physics.geometry import Layout
from ..physics.prepare import PreparedScan
from ..physics.residual import Residual
from ..physics.scaling import crop_support
from ..physics.stitching.stitch import contributions
from .canvas import LiveCanvas
from .setting import Setting

Cell = tuple[int, int]
Area = tuple[NDArray[np.int64], NDArray[np.int64]]  # first place of the grid and that after the last
PASSES = 8.0  # of the engine over a cell; then it rests until more patterns come
APART = 0.5  # pixels along rows or columns; what a scan must span


@dataclass(eq=False)
class Mosaic:
    """Patches by the order in which they were placed, on `canvas`.

    `stored` are the patterns, in a file; a pattern's `rows` says where. `patches` holds u of those that a network has
    seen; the first `settled` ones are in `base` instead, the object that all began with (None: an empty one). `cells`
    are squares of N pixels of the grid with the patches that begin there, `visits` how often the engine was there.
    `scale` is the factor on the network's amplitude that the counts ask for.
    """

    setting: Setting
    canvas: LiveCanvas
    stored: Scratch
    folder: Path | None = None
    base: LiveCanvas | None = None
    settled: int = 0
    scale: float = 1.0
    synchronized: int = 0
    rows: list[int] = field(default_factory=list)
    corners: list[NDArray[np.int64]] = field(default_factory=list)
    fractions: list[NDArray[np.float64]] = field(default_factory=list)
    cells: dict[Cell, list[int]] = field(default_factory=dict)
    visits: dict[Cell, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def patches(self) -> Scratch:
        """u of the patches from number `settled` on, (k, n, n)."""
        return Scratch(np.complex64, (self.setting.size,) * 2, self.folder, 'The patches of a live scan')

    @cached_property
    def step(self) -> FarFieldStep:
        """The engine's step, whose kind the dose decides."""
        return FarFieldStep.for_scan(self.setting.sample, NUMPY)

    def add(
        self, patterns: NDArray[Any], rows: NDArray[np.int64], positions: NDArray[np.float64], network: Network
    ) -> Area:
        """Predict usable, rolled patterns (k, N, N) and lay each on the canvas as it fits there; where that was."""
        corners, fractions = self.canvas.place(positions)
        self.canvas.grow(corners)
        sample = self.setting.sample
        seen = sample.scaler.counts_to_input(sample.scan.convert_to_counts(patterns))
        found = crop_support(network.predict(seen.root4, seen.backprojection), self.setting.size)
        u = contributions(found, self.setting.weight, fractions)
        self.patches.append(u)
        self.canvas.add(u * np.float32(self.scale), self.setting.shifted_weight(fractions), corners)
        self.note(rows, corners, fractions)
        inset = (sample.n_pixels - self.setting.size) // 2
        return corners.min(axis=0) + inset, corners.max(axis=0) + inset + self.setting.size

    def note(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], fractions: NDArray[np.float64], visits: float = 0.0
    ) -> None:
        """Remember patterns, at corners (k, 2) of the grid, that the engine has visited so often."""
        for row, corner, fraction in zip(rows.tolist(), corners, fractions, strict=True):
            down, right = (corner // self.setting.sample.n_pixels).tolist()
            there = self.cells.setdefault((down, right), [])
            before = self.visits.get((down, right), 0.0)
            self.visits[down, right] = (before * len(there) + visits) / (len(there) + 1)
            there.append(len(self.rows))
            self.rows.append(row)
            self.corners.append(corner)
            self.fractions.append(fraction)

    def find_least_visited(self) -> Cell | None:
        """The cell where the engine was least often; None where it was everywhere often enough."""
        cell = min(self.visits, key=lambda one: self.visits[one], default=None)
        return None if cell is None or self.visits[cell] >= PASSES else cell

    def layout(self, numbers: NDArray[np.int64], area: Area) -> Layout:
        """Some patches on an area of the grid."""
        corners = np.array([self.corners[number] for number in numbers.tolist()]).reshape(-1, 2)
        fractions = np.array([self.fractions[number] for number in numbers.tolist()]).reshape(-1, 2)
        height, width = (area[1] - area[0]).tolist()
        return Layout(corners - area[0], fractions, (0.0, 0.0), (height, width))

    def area(self, numbers: NDArray[np.int64]) -> Area:
        """The windows of some patches on the grid."""
        corners = np.array([self.corners[number] for number in numbers.tolist()])
        return corners.min(axis=0), corners.max(axis=0) + self.setting.sample.n_pixels

    def prepare(self, numbers: NDArray[np.int64], area: Area) -> PreparedScan | None:
        """Some patterns as a scan on an area of the grid; None of fewer than two, or all at one place."""
        return self._prepare(numbers, self.layout(numbers, area))

    def _prepare(self, numbers: NDArray[np.int64], layout: Layout) -> PreparedScan | None:
        positions = layout.corners + layout.fractions
        if len(numbers) < 2 or np.ptp(positions, axis=0).max() < APART:
            return None
        patterns = self.setting.roll(self.stored.read(np.array([self.rows[number] for number in numbers.tolist()])))
        return self.setting.prepare(patterns, positions, layout)

    def misfit(self, numbers: NDArray[np.int64]) -> Residual | None:
        """Of some patterns and the object as it is; None of fewer than two.

        Their windows are looked at side by side: the object as a whole would cost more than they do.
        """
        side = self.setting.sample.n_pixels
        corners = [self.corners[number] for number in numbers.tolist()]
        strip = np.concatenate([self.canvas.crop(corner, corner + side) for corner in corners])
        places = np.stack([side * np.arange(len(numbers)), np.zeros(len(numbers), np.int64)], axis=1)
        fractions = np.array([self.fractions[number] for number in numbers.tolist()])
        prepared = self._prepare(numbers, Layout(places, fractions, (0.0, 0.0), (len(strip), side)))
        return None if prepared is None else residuals(prepared, strip)

    def centers(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Centers (k, 2) of some patterns in the object, pixels."""
        layout = self.layout(numbers, self.whole())
        return np.asarray(layout.corners + layout.fractions + (self.setting.sample.n_pixels - 1) / 2)

    def sample(self, count: int) -> NDArray[np.int64]:
        """Up to `count` patches, evenly spaced in the order in which they came."""
        return np.unique(np.linspace(0, len(self) - 1, count).astype(np.int64))

    def whole(self) -> Area:
        """All of the canvas that is used."""
        return self.canvas.begin, self.canvas.begin + self.canvas.shape
