"""When background and intensity are estimated: where they are asked for, or where the data ask for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..prepare import PreparedScan
from .background import FIRST_STEP, background_share, step_background, suspected_background
from .detector import DetectorSums, Switch
from .intensity import (
    LongRangeAmplitude,
    excess_scatter,
    intensity_deviation,
    long_range_amplitude,
    normalize,
    step_intensity,
)
from .update import Engine
from .wavefront import FEWEST

FROM_PASS = 3  # before, the object has not learned where it absorbs
LEAST_SCATTER = 0.015  # of log s; less is not looked for
LEAST_SHARE = 0.02  # of the residual, (log s)^2 / 4 for each count: an object far from the data has other troubles
# Of the scatter one and two passes before: while an object is still being found it falls faster, the scatter of a beam
# hardly falls at all. Measured .75 and .63 at most on clean scans that overlap by 30 %, .9 and .7 at least with 10 %.
STEADY, STEADY_TWICE = 0.85, 0.68
LEAST_DRIFT = 0.01  # rms of the long-range log abs(O) that the patterns miss: clean scans have up to .005
CLEAR, VISIBLE = 2.4, 1.0  # times what counting noise makes of it: to be believed, and with factors that are known
SAMPLED_PATTERNS = 128  # by which both are looked for
SETTLED = 0.02  # relative change of the background below which residuals of two passes compare


@dataclass(eq=False)
class DetectorFit:
    """Estimates background and intensity of an engine's scan along with its object, in so many passes."""

    engine: Engine
    background: bool
    intensity: Switch
    passes: int
    varies: bool = field(init=False)
    scatters: list[float] = field(default_factory=list)
    share: float = field(init=False)

    def __post_init__(self) -> None:
        self.varies = self.intensity == 'on'
        self.share = background_share(self.engine.prepared)

    @classmethod
    def for_engine(cls, engine: Engine, background: Switch, intensity: Switch, passes: int) -> DetectorFit:
        """Looks for a background in the patterns, and starts from it."""
        prepared = engine.prepared
        if prepared.background is None and background != 'off' and passes:
            engine.prepared = prepared = replace(prepared, background=suspected_background(prepared))
            if prepared.gauge.choice == 'from_counts' and prepared.background is not None:
                engine.scale_power(1 - background_share(prepared))
        estimated = background == 'on' or (background == 'auto' and prepared.background is not None)
        return cls(engine, estimated, intensity if len(prepared) >= FEWEST else 'off', passes)

    def forget_beam(self) -> None:
        """Look for a beam that varies anew: what looked like one may have been the probe."""
        if self.intensity == 'auto':
            self.varies, self.scatters = False, []
            self.engine.prepared = replace(self.engine.prepared, intensity=None)

    def begin_anew(self, start: PreparedScan) -> None:
        """Forget what was learned with a probe that was wrong; `start`: the scan as it was at first."""
        prepared = self.engine.prepared
        self.engine.prepared = replace(prepared, background=start.background, intensity=start.intensity)
        self.varies, self.scatters = self.intensity == 'on', []

    def begin_pass(self, number: int) -> None:
        """Have the engine gather in pass `number` (from 1) what it takes."""
        wanted = self.background or (self.intensity != 'off' and number >= FROM_PASS - 1)
        self.engine.detector = DetectorSums.empty(self.engine.prepared, with_pixels=self.background) if wanted else None

    def end_pass(self, number: int, residual: float) -> bool:
        """Improve both after pass `number`; whether its `residual` compares with that of the next pass."""
        prepared, sums = self.engine.prepared, self.engine.detector
        if sums is None:
            return True
        before = prepared.background
        if self.intensity != 'off' and number >= FROM_PASS - 1:
            self.varies = self.varies or self._scatters(sums, residual)
        if self.varies and number >= min(FROM_PASS, self.passes):
            prepared = replace(prepared, intensity=step_intensity(prepared, sums))
        if self.background:
            length = FIRST_STEP if number == 1 < self.passes else 1.0
            prepared = replace(prepared, background=step_background(prepared, sums, length))
        self.engine.prepared = prepared
        if not self.background:
            return True
        now, then = (0.0 if b is None else float(b.mean()) for b in (prepared.background, before))
        return abs(now - then) <= SETTLED * max(now, then)

    def _scatters(self, sums: DetectorSums, residual: float) -> bool:
        """Whether the counts of patterns scatter beyond noise, and not because the object is still being found."""
        prepared = self.engine.prepared
        deviation, noise = intensity_deviation(prepared, sums)
        self.scatters.append(excess_scatter(deviation, noise))
        *before, last = self.scatters
        least = max(LEAST_SCATTER, float(np.median(noise)), 2 * math.sqrt(LEAST_SHARE * residual))
        if not before or last < least:
            return False
        return last > STEADY * before[-1] if len(before) == 1 else last > STEADY_TWICE * before[-2]

    def _sample(self) -> tuple[PreparedScan, NDArray[np.int64]]:
        placed = self.engine.placed
        index = np.unique(np.linspace(0, len(placed) - 1, SAMPLED_PATTERNS).astype(np.int64))
        return placed.part(index), index

    def correct_drift(self, number: int, *, settled: bool, after_block: Callable[[int], None] | None = None) -> None:
        """Give back to s after pass `number` what the object has taken of it; `settled`: the probe is known."""
        last = number == self.passes
        power_of_two = number & (number - 1) == 0
        if self.engine.prepared.kernel is not None:  # no pattern has one slope of the amplitude there
            return
        if self.intensity == 'off' or not (last or (self.varies and settled and power_of_two and number > FROM_PASS)):
            return
        if not self.varies and not self._misses_drift(self._sample()[0]):
            return
        engine, prepared = self.engine, self.engine.prepared
        lacking = self._lacking(self.engine.placed, after_block)
        if not lacking.exceeds(VISIBLE, prepared.scan.mean_counts) or (last and not lacking.explains):
            return
        known = np.exp(-2 * lacking.at_patterns) * (1.0 if prepared.intensity is None else prepared.intensity)
        engine.canvas = engine.canvas * engine.arrays.put(np.exp(lacking.image) * np.float32(math.sqrt(known.mean())))
        engine.prepared = replace(prepared, intensity=normalize(known))

    def _misses_drift(self, part: PreparedScan) -> bool:
        lacking = self._lacking(part)
        clear = lacking.exceeds(CLEAR, part.scan.mean_counts) and float(lacking.at_patterns.std()) > LEAST_DRIFT
        return clear and lacking.explains

    def _lacking(self, part: PreparedScan, after_block: Callable[[int], None] | None = None) -> LongRangeAmplitude:
        engine = self.engine
        return long_range_amplitude(part, engine.canvas, engine.probe, engine.illumination, engine.arrays, after_block)

    def end(self) -> None:
        """Leave the power of a probe that was taken from the counts at what the background leaves of them."""
        engine = self.engine
        if engine.prepared.gauge.choice != 'from_counts' or not self.background:
            return
        ratio = (1 - background_share(engine.prepared)) / max(1 - self.share, 1e-6)
        if ratio > 0:
            engine.scale_power(ratio)
            engine.canvas *= 1 / math.sqrt(ratio)
