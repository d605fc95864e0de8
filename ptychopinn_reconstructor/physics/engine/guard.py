"""What keeps a refinement from running away: a pass that makes the object worse is taken back.

The residual of a pass is measured on the way, each batch just before its own step, so that it tells how good the object
was from the start of the pass on. Where it rises, either this pass or the end of the one before went wrong; which, a
sample of the patterns says. The engine then goes on from the better start with half the momentum, from the second
time on with smaller steps too. What rises within counting noise is left: there a lower residual only follows the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..prepare import PreparedScan
from ..residual import Residual
from .positions import displace_scan
from .residuals import residuals_there
from .update import Engine, ObjectStep

RISE = 1.02  # a residual that grows by more from one pass to the next is a step too large
END_RISE = 1.1  # of a sample in the last pass, by more than the prior costs
EXACT = 1e-7  # a residual of rounding errors
SAMPLED = 32  # patterns that a start and an end are judged by


@dataclass(frozen=True, eq=False)
class State:
    """What a pass changes: canvas (H, W), probe (modes, N, N), displacements (n, 2) or None, and what is known of the
    detector, which the scan holds."""

    canvas: Array
    probe: NDArray[np.complex64]
    displacements: NDArray[np.float64] | None
    prepared: PreparedScan


@dataclass(eq=False)
class Guard:
    """Watches over the passes of an engine; `taken_back` counts those that were undone, `gain` is what is left."""

    engine: Engine
    taken_back: int = 0
    start_dropped: bool = False
    gain: float = 1.0
    last: float = np.inf
    begun: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.engine.prepared)
        self._sample = np.unique(np.linspace(0, count - 1, min(SAMPLED, count)).astype(np.int64))

    def drop_poor_start(self) -> None:
        """Begin with an empty object where the one handed in explains the patterns less than that would."""
        engine = self.engine
        state = self._state()
        empty = replace(state, canvas=engine.arrays.xp.zeros_like(engine.canvas) + 1)
        if not self._misfit(state) <= self._misfit(empty):
            self.start_dropped = True
            self._restore(empty)

    def forget(self) -> None:
        """Compare the next pass with none before: what is known of the detector has changed."""
        self.last = np.inf

    def begin_pass(self) -> None:
        """Keep the starts of this pass and of the one before."""
        self.begun = [*self.begun[-1:], self._state()]

    def limit(self, step: ObjectStep) -> ObjectStep:
        """A step as large as the passes so far allow."""
        return replace(step, momentum=self.gain * step.momentum, gain=min(1.0, 2 * self.gain) * step.gain)

    def end_pass(self, value: float) -> bool:
        """Take the pass back if its residual says so; whether it was left as it is."""
        if np.isfinite(value) and value <= RISE * self.last + EXACT:
            self.last = value
            return True
        state = min(self.begun, key=self._misfit)
        if value <= END_RISE * self._noise(state):  # the start had followed the noise, what the prior took back
            self.last = value
            return True
        self._take_back(state)
        # A pass tells the mean of its way: what it begins with may be worse than what the pass before had come to.
        self.last = max(self.last, END_RISE * self._misfit(state)) if np.isfinite(self.last) else np.inf
        return False

    def end(self) -> None:
        """Take the last pass back if it made the object worse."""
        if not self.begun:
            return
        allowed = END_RISE * max(self._misfit(self.begun[-1]), self._noise(self.begun[-1])) + EXACT
        if not self._misfit(self._state()) <= allowed:
            self._take_back(self.begun[-1])

    def _take_back(self, state: State) -> None:
        self.taken_back += 1
        self.gain /= 2
        self._restore(state)

    def _state(self) -> State:
        moved = self.engine.displacements
        return State(
            1 * self.engine.canvas,
            self.engine.probe,
            None if moved is None else moved.values.copy(),
            self.engine.prepared,
        )

    def _restore(self, state: State) -> None:
        engine = self.engine
        engine.canvas = 1 * state.canvas
        engine.velocity[:] = 0
        engine.prepared = state.prepared
        engine.take_variation()
        if state.probe is not engine.probe:
            engine.set_probe(state.probe)
            engine.measure_illumination()
        if engine.displacements is not None and state.displacements is not None:
            engine.displacements.values = state.displacements.copy()

    def _misfit(self, state: State) -> float:
        """Residual of a sample of the patterns; infinite where it is not a number."""
        found = self._residual(state).overall
        return found if np.isfinite(found) else np.inf

    def _noise(self, state: State) -> float:
        """What counting noise alone would leave as residual of the same patterns."""
        found = self._residual(state)
        return float(found.lit_noise.sum() / max(float(found.counts.sum()), 1.0))

    def _residual(self, state: State) -> Residual:
        prepared: PreparedScan = state.prepared
        if state.displacements is not None:
            prepared = displace_scan(prepared, state.displacements)
        part, arrays = prepared.part(self._sample), self.engine.arrays
        return residuals_there(part, state.canvas, state.probe, arrays=arrays)
