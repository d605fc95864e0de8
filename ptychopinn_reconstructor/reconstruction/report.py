"""How a reconstruction went: what made it, how far it can be trusted, and the time of each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..events import Notice
from ..result import RunInfo

if TYPE_CHECKING:
    from .diagnostics import Reliability


@dataclass(frozen=True, eq=False)
class Report:
    """What goes into metrics.json beside the image metrics."""

    run: RunInfo
    reliability: Reliability
    notices: tuple[Notice, ...]
    stages: Mapping[str, Mapping[str, float]]

    @property
    def residual(self) -> float:
        """Normalized residual of all patterns."""
        return self.reliability.misfit.overall

    @property
    def residual_per_pattern(self) -> NDArray[np.float64]:
        """Normalized residual of each pattern (n,), in the order of the scan file."""
        return self.reliability.misfit.per_pattern


@dataclass(eq=False)
class StageTimes:
    """Wall and CPU seconds of the stages of a job by their names, and patterns a second."""

    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    _spent: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, patterns: int) -> Iterator[None]:
        """Time a stage that handles `patterns` patterns; one that comes again adds up."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = np.array([time.perf_counter() - wall, time.process_time() - cpu, patterns])
        self._spent[name] = spent = self._spent.get(name, np.zeros(3)) + spent
        self.stages[name] = {
            'wall_seconds': round(float(spent[0]), 4),
            'cpu_seconds': round(float(spent[1]), 4),
            'patterns_per_second': round(float(spent[2] / max(spent[0], 1e-9)), 1),
        }
