"""Simulated scans of a study: one area, probe and object at varied dose, overlap and seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, quote
from ...io import read_scan, write_npz
from ...physics.probes import energy_diameter, make_probe
from ...physics.simulation.objects import OBJECTS, make_object
from ...physics.simulation.simulate import raster, simulate
from .description import Study
from .grid import Run

JITTER, LARGEST_JITTER = 0.25, 2.0  # of the step, and pixels: simulated_A has 2 at a step of 8
SLACK = 4  # pixels of an object beside what its patches need
TRAINED_ON = 1_000_003  # added to the seed of a scan that only serves to train, so that it has another object


@dataclass(frozen=True, eq=False)
class Sample:
    """Sample shared by the scans of a study: probe (modes, N, N) and, where a scan is given, its object (H, W)."""

    study: Study
    probe: NDArray[np.complex128]
    given: NDArray[Any] | None = None

    @classmethod
    def of(cls, study: Study) -> Sample:
        """Sample that a study describes; ScanError or ConfigError if its scan, probe or object does not exist."""
        if study.scan is None:
            if study.object not in OBJECTS:
                raise ConfigError(f'The object {quote(study.object)} is unknown; choose one of {", ".join(OBJECTS)}.')
            return cls(study, make_probe(study.probe, study.n))
        scan = read_scan(study.scan).scan
        if scan.probe is None or scan.object is None:
            missing = 'probe (probeGuess)' if scan.probe is None else 'object (objectGuess)'
            raise ConfigError(f'{study.scan} has no {missing}; a study of it needs both.')
        return cls(study, scan.probe.astype(np.complex128), scan.object)

    @cached_property
    def diameter(self) -> float:
        """Diameter (pixels) of the circle that holds 90 % of the probe's energy."""
        return energy_diameter(self.probe)

    def step(self, run: Run) -> float:
        """Step between neighboring positions, pixels."""
        return self.diameter * (1 - run.overlap / 100)

    def patterns(self, run: Run) -> int:
        """Number of patterns that cover the area, limited by the extent of the object."""
        step, room = self.step(run), min(self._object_shape) - self._patch_size - 1
        wide = 2 * _limit_jitter(step)
        intervals = min(round((self.study.area - wide) / step), int((room - wide) / step))
        if intervals < 1:
            raise ConfigError(
                f'An overlap of {run.overlap:g} % is a step of {step:.1f} px, more than the area of '
                f'{self.study.area:g} px holds; make the area larger.'
            )
        return (intervals + 1) ** 2

    def write(self, path: Path, run: Run) -> None:
        """Simulate the scan that a run reconstructs; the truth is in it. The object is the same at any overlap."""
        step, rng = self.step(run), np.random.default_rng([run.seed, 1])
        truth = self.given
        if truth is None:
            truth = make_object(self.study.object, self._object_shape, np.random.default_rng([run.seed, 2]))
        drawn = raster(self.patterns(run), step, _limit_jitter(step), self._patch_size, rng)
        middle = (np.asarray(truth.shape) - 1) / 2
        centers = drawn + middle - (drawn.min(axis=0) + drawn.max(axis=0)) / 2
        self._write(path, run, run.seed, centers, truth)

    def write_training_scan(self, path: Path, run: Run) -> None:
        """Simulate a scan of another object for a run that trains on one, with the same probe, step and dose."""
        assert run.train_patterns is not None
        self._write(path, run, run.seed + TRAINED_ON, run.train_patterns, self.study.object)

    def _write(
        self, path: Path, run: Run, seed: int, positions: int | NDArray[np.float64], truth: str | NDArray[Any]
    ) -> None:
        step = self.step(run)
        modes = len(self.probe)
        scan = simulate(
            positions=positions,
            step=step,
            jitter=_limit_jitter(step),
            photons=run.dose,
            object=truth,
            probe=self.probe,
            modes=modes,
            seed=seed,
        )
        write_npz(path, scan)

    @property
    def _patch_size(self) -> int:
        return int(self.probe.shape[-1])

    @property
    def _object_shape(self) -> tuple[int, int]:
        """Shape of the object: the area and half a patch on each side, independent of the step."""
        if self.given is not None:
            return self.given.shape[0], self.given.shape[1]
        size = ceil(self.study.area + 1.5 * self._patch_size) + SLACK
        return size, size


def _limit_jitter(step: float) -> float:
    return min(LARGEST_JITTER, JITTER * step)
