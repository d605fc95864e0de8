"""The passes of a refinement: how the next one goes, given those that were made, and who hears of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import TrainingError
from ...events import Emit, Epoch, Progress, ShouldStop
from ..arrays import Array
from .guard import Guard
from .modes import FEWEST, Modes, asks_after, find_modes, first_asked, orthogonalize, set_number
from .options import PROBE_FROM_PASS, RefineOptions
from .probe_search import is_hopeless, search_probe
from .update import BLEND, OBJECT_BLEND, Engine
from .variation_search import find_variation, settle_variation

Answer = Literal['as it was', 'improved', 'begun anew']
LISTEN = 0.25  # seconds at most without progress and without asking whether to stop, in a large batch


class Stopped(Exception):  # noqa: N818 - not an error
    """The job was asked to stop."""


@dataclass(eq=False)
class History:
    """The passes that were made, and what they say about the next one.

    `course`: how to go on after the first `before` passes; that is `options` until the patterns ask for another probe.
    After `begun_after` passes all began anew.
    `start` and `given`: object and probe of the first pass, where the patterns may be asked.
    """

    options: RefineOptions
    n_patterns: int
    emit: Emit
    should_stop: ShouldStop
    residuals: list[float] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)
    before: int = 0
    start: Array | None = None
    given: Modes | None = None
    begun_after: int = 0
    judged: bool = False
    asked: bool = False
    found_probe: bool = False
    replaced_probe: bool = False
    course: RefineOptions = field(init=False)

    def __post_init__(self) -> None:
        self.course = self.options

    @property
    def number(self) -> int:
        """Of the last pass, from 1."""
        return len(self.residuals)

    @property
    def complete(self) -> bool:
        """Whether all passes have been made."""
        return self.number >= self.options.passes

    @property
    def solves_wavefront(self) -> bool:
        """Whether the long-range phase is solved for after the last pass."""
        return self.course.solves_wavefront(self.number - self.before)

    def next_batches(self) -> int:
        """Batches of the next pass."""
        return self.course.schedule(self.n_patterns)[self.number - self.before]

    def ask_for_probe(self, engine: Engine, guard: Guard) -> Answer:
        """Go on with the probe that the patterns ask for, if it is time and they do, and improve it from now on."""
        options, number = self.options, self.number
        if not self.judged and number >= max(first_asked(options.passes, refined=options.refine_probe), FEWEST):
            self.judged = True
            if is_hopeless(engine.prepared, self.residuals[-1]) and self._begin_anew(engine, guard):
                return 'begun anew'
        if options.modes is None and not self.asked and self._improve_probe(engine, guard):
            return 'improved'
        return 'as it was'

    def _improve_probe(self, engine: Engine, guard: Guard) -> bool:
        """Whether another probe was found."""
        options, number = self.options, self.number
        if not asks_after(self.residuals[self.before :], options.passes - self.before, refined=options.refine_probe):
            return False
        self.asked = True
        varying = find_variation(engine, self.residuals[-1])
        found = find_modes(engine, self.residuals[-1]) if varying is None else engine.probe
        if found is None and not options.refine_probe:
            return False
        if varying is not None:
            engine.prepared = replace(engine.prepared, variation=varying)
            engine.take_variation()
        if found is not None:
            engine.set_probe(found)
            engine.measure_illumination()
            self.found_probe = True
            guard.gain = 1.0  # what went wrong so far may have been the probe
            engine.blend = OBJECT_BLEND  # known by now: the larger one costs 3 dB of phase in few passes
            self.options = replace(options, passes=max(options.passes, options.passes_with_probe))
        self.before = number
        self.course = options.with_probe(self.options.passes - number, known=True)
        return found is not None

    def _begin_anew(self, engine: Engine, guard: Guard) -> bool:
        """Begin again with a probe that moves from the outset, and slowly, where there is one to begin with: nothing
        found with the one given is worth keeping, nor are the passes that told so counted."""
        options = self.options
        if self.start is None or self.given is None:
            return False
        found = search_probe(engine, self.given, self._listen_in_search)
        if found is None and not (options.refine_probe and options.modes is None):
            return False
        if found is None:
            self.asked, engine.canvas = True, 1 * self.start
        else:
            self.found_probe = self.replaced_probe = True
            engine.replace_probe(set_number(found, len(self.given) if options.modes is not None else 1))
            engine.canvas = engine.arrays.xp.zeros_like(engine.canvas) + 1
        self.before = self.begun_after = self.number
        self.options = replace(options, passes=options.passes + self.before)
        course = self.options.with_probe(options.passes, known=False)
        self.course = replace(course, probe_from_pass=PROBE_FROM_PASS)
        engine.blend = BLEND
        engine.velocity[:] = 0
        guard.gain, guard.last = 1.0, np.inf
        guard.begun.clear()
        return True

    def run_pass(self, engine: Engine, guard: Guard, drawn: list[NDArray[np.int64]]) -> bool:
        """Visit each batch once; whether it stays so."""
        number = self.number + 1
        options, course = self.options, self.course
        with_probe = course.refine_probe and number - self.before >= course.probe_from_pass
        with_positions = options.refine_positions and number >= options.positions_from_pass
        step = guard.limit(course.step(number - self.before))
        error = counts = 0.0
        done = (number - 1) * self.n_patterns
        for index in drawn:
            self._listen()
            part = engine.update(
                index,
                step,
                with_probe=with_probe,
                with_positions=with_positions,
                after_block=partial(self._within_batch, done),
            )
            error, counts, done = error + part[0], counts + part[1], done + len(index)
            self._tell(done)
        if not self._end_pass(guard, number, error / max(counts, 1.0)):
            return False
        if with_probe:
            if number < options.passes:
                engine.center_probe()
            settle_variation(engine)
            if len(engine.probe) > 1 and engine.varying is None:
                engine.set_probe(orthogonalize(engine.probe))
            engine.measure_illumination()
        if with_positions and engine.displacements is not None:
            engine.displacements.remove_affine_part()
        return True

    def between(self) -> None:
        """Listen, within the prior of a large canvas."""
        if time.monotonic() - self.heard > LISTEN:
            self._listen()
            self.heard = time.monotonic()

    def within_wavefront(self, done: int) -> None:
        """Listen, and tell how many patterns have been asked for their slope."""
        if time.monotonic() - self.heard > LISTEN:
            self._listen()
            self.emit(Progress('wavefront', done, self.n_patterns))
            self.heard = time.monotonic()

    def _listen_in_search(self) -> None:
        self._listen()
        if time.monotonic() - self.heard > LISTEN:
            self._tell(self.number * self.n_patterns)

    def _within_batch(self, before: int, done: int) -> None:
        if time.monotonic() - self.heard > LISTEN:
            self._listen()
            self._tell(before + done)

    def _listen(self) -> None:
        if self.should_stop():
            raise Stopped

    def _tell(self, done: int) -> None:
        total = self.options.passes * self.n_patterns
        self.emit(Progress('refine', done, total))
        self.heard = time.monotonic()

    def _end_pass(self, guard: Guard, number: int, value: float) -> bool:
        if not np.isfinite(value) and number == 1:
            raise TrainingError(
                f'The residual of the first refinement pass is {value}; check the probe and the starting object.'
            )
        self.residuals.append(value)
        self.emit(Epoch('refine', number, self.options.passes, residual=value))
        return guard.end_pass(value)
