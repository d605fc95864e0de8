"""What a batch of the engine adds up, and how several processes that have each done a part of it have the whole."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Arrays, add_up
from .detector import DetectorSums
from .varying_probe import LackingProbes, VaryingSums


@dataclass(eq=False)
class Sums:
    """What a batch adds up: object numerator and weight (H, W), those of the probe (a spectrum), misfit, counts.

    `motion` holds for each block the index of its patterns, and b and H of their positions (see `positions`), `varying`
    what they say of a probe that varies (see `varying_probe`), `detector` what they say of the detector.
    """

    object: Array
    weight: Array
    probe: Array
    probe_weight: Array
    error: float = 0.0
    counts: float = 0.0
    motion: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=list)
    varying: VaryingSums | LackingProbes | None = None
    detector: DetectorSums | None = None

    def merge(self, arrays: Arrays, detector: DetectorSums | None, index: NDArray[np.int64]) -> None:
        """Make the sums of this process those of all of them, over the patterns at `index`.

        What is found of each pattern comes in the order of one process, what is added up differs from it by rounding.
        `detector` hears of what its own part here has gathered.
        """
        if arrays.processes.total == 1:
            return
        varying = self.varying
        steps = varying.steps if isinstance(varying, VaryingSums) else []
        lacking = varying.found if isinstance(varying, LackingProbes) else []
        parts = arrays.processes.gather((self.error, self.counts, self.motion, steps, lacking))
        self.error, self.counts = sum(part[0] for part in parts), sum(part[1] for part in parts)
        self.motion = [one for part in parts for one in part[2]]
        self.object, self.weight, self.probe, self.probe_weight = (
            add_up(values, arrays) for values in (self.object, self.weight, self.probe, self.probe_weight)
        )
        if isinstance(varying, VaryingSums):
            varying.steps, varying.spectra = [one for part in parts for one in part[3]], add_up(varying.spectra, arrays)
        if isinstance(varying, LackingProbes):
            varying.found = [one for part in parts for one in part[4]]
        if detector is not None and self.detector is not None:
            for values in self.detector.values:
                arrays.processes.add_up(values)
            detector.take(self.detector, index)
