"""Refinement of an object, and of the probe, by the classical engine: after a prediction, or alone.

A pass visits each pattern once, in batches that each sample the scan evenly (`batches`), drawn from the canonical order
with the seed, so that neither the order of a file nor a constant added to its positions changes the result. Many small
batches move fast, and the noise that they leave is averaged away at the end: their number falls from pass to pass to a
single large one. What batches learn slowly, the long-range phase, is solved for in closed form (`wavefront`) after
passes 1, 2, 4, 8 ... and the last.

Nothing may run away: the object is kept within what the counts allow, and a pass that ends worse than it began is taken
back (`guard`), whereupon the engine goes on from where it was best, with less momentum and smaller steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, ScanError, TrainingError
from ...events import Emit, Epoch, Event, Progress, ShouldStop, ignore, never
from ..arrays import NUMPY, Array, Arrays
from ..illumination import illumination
from ..prepare import PreparedScan
from ..probes import MAX_MODES
from ..sampling import scan_overlap
from ..stitching.count_scale import LARGEST_CHANGE, count_gauge
from .affine import AffineMap, estimate_affine
from .alignment import Trial, affine_displacements, align_scan, carry_object, fits_better
from .batches import even_sampling
from .detector import Switch
from .detector_fit import DetectorFit
from .far_field_step import FarFieldStep
from .guard import Guard
from .modes import FEWEST, HOPELESS, asks_after, brightest_amplitude, find_modes, first_asked, orthogonalize, set_number
from .positions import Displacements, displace_scan
from .prior import Smoothness, mean_dose
from .update import BLEND, PRIOR_COUNTS, Engine, ObjectStep
from .wavefront import correct_long_range_phase

SMALLEST_BATCH = 4  # patterns; smaller batches only add noise
FIRST_BATCHES = 16  # of the first pass
BATCHES_A_PASS = 4  # of the first pass, for each pass that there is
PROBE_FROM_PASS = 3  # from which on the object is good enough to tell of the probe
SETTLING_PASSES = 3  # passes of probe update before the long-range phase can be relied on
HOLD = 0.7  # share of the passes that keep the first number of batches while the probe is refined
MOMENTUM = 0.6, 0.87  # for no light and for much: momentum keeps the noise of many batches
HORIZON = 1.8  # 1 - momentum is this over the passes, at least
WELL_TIED, LOOSE = 0.65, 0.2  # overlap at which few passes do, and most are needed
WITH_PROBE = 20  # passes at least where the probe or the positions are refined too
SCARCE = 15.0  # counts per object pixel half way between those, and at which the prior, which blurs texture, is halved
FADING = 0.35  # share of the passes over which momentum fades to none
SHAPING = 0.25  # share of the passes that find an object's shape: more momentum there freezes vortices in its phase
LISTEN = 0.25  # seconds at most without progress and without asking whether to stop, in a large batch
DAMPED = 2 / 3  # of the mean illumination: tau at most, where the prior already holds the noise down


AfterPass = Callable[[int, NDArray[np.complex64]], None]


@dataclass(frozen=True)
class RefineOptions:
    """How to refine; `for_scan` gives the settings measured to be best.

    Parameters
    ----------
    passes
        Times that each pattern is visited; 0 leaves everything as it is.
    refine_probe, probe_from_pass
        Whether the probe is updated too, its power held, and from which pass on (the first pass is 1).
    modes
        How many incoherent modes the probe has, 0: as many as are given; None: they and the probe are improved where
        the patterns ask for it (`modes`).
    passes_with_probe
        Passes to be made where the patterns have asked for another probe, 0: no more than without.
    first_batches
        Batches in the first pass, at least four patterns each; their number falls to one in the last pass.
    momentum
        Share of the last step that is repeated, 0 to below 1; at most .6 in the first quarter of the passes, and it
        fades to none in the last third; none suits a probe not yet known.
    refine_positions, positions_from_pass, largest_displacement
        Whether the scan positions are updated too, from which pass on, and how far from the scan's own, pixels.
    prior
        Strength of the smoothness prior after each pass (`smoothness`), 1: as measured best; 0: none.
    wavefront
        Whether the long-range phase is solved for from the slopes of all patterns (`wavefront`), after passes 1, 2, 4,
        8 ... and the last.
    background, intensity
        Whether a background of the patterns and a factor for each on the power of the beam are estimated too; 'auto':
        where the data ask for it (`detector_fit`).
    seed
        Draws the batches.

    Raises
    ------
    ConfigError
        When a value is out of its range.
    """

    passes: int
    refine_probe: bool = False
    probe_from_pass: int = PROBE_FROM_PASS
    modes: int | None = 0
    passes_with_probe: int = 0
    first_batches: int = FIRST_BATCHES
    momentum: float = 0.0
    prior: float = 0.0
    refine_positions: bool = False
    positions_from_pass: int = 3
    largest_displacement: float = 5.0
    wavefront: bool = False
    background: Switch = 'off'
    intensity: Switch = 'off'
    seed: int = 0

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise ConfigError(f'The number of refinement passes is {self.passes}; it must be 0 or more.')
        counted = {name: getattr(self, name) for name in ('probe_from_pass', 'positions_from_pass', 'first_batches')}
        for name, value in counted.items():
            if value < 1:
                raise ConfigError(f'{name} is {value}; it counts from 1.')
        if not 0 < self.largest_displacement < math.inf:
            raise ConfigError(f'The largest displacement is {self.largest_displacement} pixels; it must be above 0.')
        if not 0 <= self.momentum < 1:
            raise ConfigError(f'The momentum is {self.momentum}; it must be at least 0 and below 1.')
        if self.modes is not None and not 0 <= self.modes <= MAX_MODES:
            raise ConfigError(f'The probe is to have {self.modes} modes; choose 1 to {MAX_MODES}, or 0: as it has.')
        if not 0 <= self.prior < math.inf:
            raise ConfigError(f'The strength of the prior is {self.prior}; it must be 0 or more.')

    @classmethod
    def for_scan(
        cls,
        passes: int | None = None,
        *,
        dose: float = math.inf,
        overlap: float = 1.0,
        from_network: bool = False,
        prior: float | None = None,
        refine_probe: bool = False,
        modes: int | None = 0,
        refine_positions: bool = False,
        wavefront: bool = True,
        background: Switch = 'auto',
        intensity: Switch = 'auto',
        seed: int = 0,
    ) -> RefineOptions:
        """The settings for a scan of a dose (counts per object pixel) and overlap, from a network's object or none."""
        refine_probe = refine_probe or bool(modes)
        passes_with_probe = WITH_PROBE if passes is None else 0
        if passes is None:
            passes = automatic_passes(overlap, from_network=from_network, more=refine_probe or refine_positions)
        first = first_asked(passes, refined=True)
        asked = refine_probe and modes is None and first >= FEWEST
        unasked = refine_probe and not asked
        return cls(
            passes,
            refine_probe,
            first + 1 if asked else PROBE_FROM_PASS,
            modes=modes,
            passes_with_probe=passes_with_probe,
            first_batches=2 * FIRST_BATCHES if unasked and passes > 2 else FIRST_BATCHES,
            momentum=0.0 if unasked else automatic_momentum(dose, passes),
            prior=automatic_prior(dose) if prior is None else prior,
            refine_positions=refine_positions,
            wavefront=wavefront,
            background=background,
            intensity=intensity,
            seed=seed,
        )

    def batches(self, n_patterns: int) -> int:
        """Batches of the first pass for a scan of `n_patterns`."""
        first = min(self.first_batches, BATCHES_A_PASS * self.passes)  # few passes must not end on many batches
        return min(first, max(1, n_patterns // SMALLEST_BATCH))

    def schedule(self, n_patterns: int) -> list[int]:
        """Number of batches of each pass for a scan of `n_patterns`."""
        most = self.batches(n_patterns)
        last = min(most, 1 if self.passes > 2 else 2)
        held = round(HOLD * self.passes) if self.refine_probe and self.passes > self.probe_from_pass else 1
        falls = self.passes - held
        tail = [max(1, round(most * (last / most) ** (t / falls))) for t in range(1, falls + 1)]
        return [most] * min(held, self.passes) + tail

    def step(self, number: int) -> ObjectStep:
        """How the batches of pass `number` (from 1) move the object: momentum keeps noise, so that it ends before."""
        left = 1 - (number - 1) / (self.passes - 1) if self.passes > 1 else 0.0
        shaping = number <= max(2, SHAPING * self.passes)
        momentum = min(self.momentum, MOMENTUM[0]) if shaping else self.momentum
        return ObjectStep(momentum * min(1.0, left / FADING))

    def alignment_passes(self, prepared: PreparedScan, probe: NDArray[np.complex64]) -> int:
        """Passes after which an object shows whether the positions must be turned, sheared or scaled as a whole."""
        overlap = scan_overlap(prepared.positions, probe)
        settled = automatic_passes(overlap, from_network=False, more=False) // 2
        return settled + (SETTLING_PASSES if self.refine_probe else 0)

    def with_probe(self, passes: int, *, known: bool) -> RefineOptions:
        """The same for as many passes more, with a probe that is to be improved and is about known by now, or not."""
        # Less momentum than a probe that is known allows: measured .1 to .3 dB better with three modes.
        return replace(
            self,
            passes=passes,
            refine_probe=True,
            probe_from_pass=1,
            modes=0,
            momentum=min(self.momentum, MOMENTUM[0]) if known else 0.0,
            first_batches=FIRST_BATCHES if known else 2 * FIRST_BATCHES,
        )

    def solves_wavefront(self, number: int) -> bool:
        """Whether the long-range phase is solved for after pass `number` (from 1): not before a probe has settled."""
        power_of_two = number & (number - 1) == 0
        return self.wavefront and (number == self.passes or (self.settled(number) and power_of_two))

    def settled(self, number: int) -> bool:
        """Whether the probe is known by the end of pass `number` (from 1)."""
        return not self.refine_probe or number >= self.probe_from_pass + SETTLING_PASSES


def automatic_passes(overlap: float, *, from_network: bool, more: bool) -> int:
    """Passes for an overlap, from a network's object or an empty one; `more`: probe or positions are refined too.

    The phases of neighbors are tied the more loosely, and come together the more slowly, the less their spots overlap.
    """
    least, most = (5, 12) if from_network else (12, 60)
    sparse = min(1.0, max(0.0, (WELL_TIED - overlap) / (WELL_TIED - LOOSE)))
    passes = round(least * math.exp(sparse * math.log(most / least)))
    return max(passes, WITH_PROBE) if more else passes


def automatic_momentum(dose: float, passes: int) -> float:
    """Momentum for a dose in counts per object pixel; few passes could not average away the noise that it keeps."""
    least, most = MOMENTUM
    most = max(least, min(most, 1 - HORIZON / max(passes, 1)))
    return least + (most - least) / (1 + SCARCE / max(dose, 1e-12))


def automatic_prior(dose: float) -> float:
    """Strength of the prior for a dose in counts per object pixel."""
    return 1 / (1 + SCARCE / max(dose, 1e-12))


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined canvas (H, W), the probe (modes, N, N) in sqrt(counts), and how it went.

    `residuals`: overall normalized residual of each complete pass, each batch measured just before its own step.
    `displacements` (n, 2) of the positions, pixels in canonical order, or None when they were not refined.
    `stopped`: the job was asked to stop; canvas and probe are those of the last complete batch. `taken_back`: passes
    that ended worse than they began, and were undone; `start_dropped`: the object handed in explained the patterns less
    than an empty one, which took its place; `probe_asked_for`: the patterns asked for another probe. `affine`: the
    matrix (2, 2) that all positions were multiplied by about their mean, within the displacements, or None.
    `background` (N, N) in counts and `intensity` (n,), the factors on
    the power of the beam in canonical order, or None where there is none (see `detector`).
    """

    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    residuals: tuple[float, ...]
    stopped: bool = False
    displacements: NDArray[np.float64] | None = None
    taken_back: int = 0
    start_dropped: bool = False
    probe_asked_for: bool = False
    affine: NDArray[np.float64] | None = None
    background: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None


def refine(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    options: RefineOptions,
    *,
    probe: NDArray[np.complex64] | None = None,
    arrays: Arrays = NUMPY,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
    after_pass: AfterPass | None = None,
) -> Refined:
    """Refine a canvas (H, W) on the layout of a scan, or all ones, against the measured patterns.

    `probe` (modes, N, N) in sqrt(counts) replaces the scan's; `arrays` say on which device to compute. Emits progress
    events (stage 'refine', in patterns) after a batch and within a long one, and an epoch event per pass (epoch, total,
    residual). `after_pass` is handed the number of the pass and the canvas, which later passes change. Where positions
    are refined and the patterns ask for all of them to be turned, sheared or scaled, that is done first (stage 'align')
    and the passes start anew. Raises ScanError when the canvas or probe does not fit the scan, TrainingError when the
    residual of the first pass is not finite.
    """
    probe = prepared.probe if probe is None else probe
    _check(prepared, canvas, probe)
    probe = set_number(probe, options.modes) if options.modes else probe
    run = partial(_refine, options=options, arrays=arrays, emit=emit, should_stop=should_stop, after_pass=after_pass)
    try:
        return run(prepared, canvas, probe=probe, watch=options.refine_positions)
    except _Distorted as distorted:
        begun, first = distorted.begun, distorted.needed
    try:
        attempt = partial(_attempt, options=options, arrays=arrays, emit=emit, should_stop=should_stop)
        aligned = align_scan(prepared, begun, first, attempt, arrays)
        if not fits_better(aligned, prepared, canvas, probe, attempt, arrays):
            return run(prepared, canvas, probe=probe)
    except _Stopped:
        return Refined(canvas, probe, (), stopped=True, displacements=np.zeros_like(prepared.positions))
    refined = run(aligned.prepared, aligned.canvas, probe=probe)
    assert refined.displacements is not None
    return replace(refined, displacements=aligned.displacements + refined.displacements, affine=aligned.matrix)


def _refine(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    options: RefineOptions,
    *,
    probe: NDArray[np.complex64],
    arrays: Arrays,
    emit: Emit,
    should_stop: ShouldStop,
    after_pass: AfterPass | None = None,
    watch: bool = False,
) -> Refined:
    """All passes with the positions as a whole as they are; `watch` for a map of them, that raises _Distorted."""
    engine = Engine(prepared, canvas, probe, FarFieldStep.for_scan(prepared, arrays))
    if options.refine_probe:
        engine.blend = BLEND
    if options.refine_positions:
        engine.displacements = Displacements(prepared.positions, options.largest_displacement)
    detector = DetectorFit.for_engine(engine, options.background, options.intensity, options.passes)
    smoothness = None
    if options.prior:
        smoothness = Smoothness.for_dose(engine.illumination, options.prior, arrays)
        engine.damping = min(PRIOR_COUNTS, DAMPED * mean_dose(engine.illumination))
    history = _History(options, len(prepared), emit, should_stop)
    guard = Guard(engine)
    generator = np.random.default_rng(options.seed)
    settled = options.alignment_passes(prepared, probe)
    stopped = False
    try:
        guard.drop_poor_start()
        history.start = 1 * engine.canvas if options.refine_probe and options.modes is None else None
        while len(history.residuals) < history.options.passes:
            count = history.course.schedule(len(prepared))[len(history.residuals) - history.before]
            guard.begin_pass()
            detector.begin_pass(len(history.residuals) + 1)
            better = history.run_pass(engine, guard, even_sampling(prepared.positions, count, generator))
            number = len(history.residuals)
            if better and not detector.end_pass(number, history.residuals[-1]):
                guard.forget()
            if smoothness is not None and better:
                engine.canvas = smoothness(engine.canvas, history.between)
            if smoothness is not None and number == history.options.passes:
                engine.canvas *= _lost_to_the_prior(engine)
            if history.course.solves_wavefront(number - history.before):
                engine.canvas = correct_long_range_phase(
                    _as_placed(engine),
                    engine.canvas,
                    engine.probe,
                    light=engine.illumination,
                    arrays=arrays,
                    after_block=history.within_wavefront,
                )
            detector.correct_drift(number, settled=options.settled(number), after_block=history.within_wavefront)
            engine.limit_amplitude()
            if number == history.options.passes:
                guard.end()
                detector.end()
            if better:
                history.ask_for_probe(engine, guard)
            if watch and number == min(options.passes, settled):
                _look_for_distortion(engine)
            elif options.refine_positions and settled < number < options.passes and number & (number - 1) == 0:
                map_scan(engine, guard)
            if after_pass is not None:
                after_pass(number, arrays.get(engine.canvas))
    except _Stopped:
        stopped = True
    moved = None if engine.displacements is None else _as_placed(engine).positions - prepared.positions
    canvas, probe = arrays.get(engine.canvas), engine.probe
    gauge, grown = prepared.gauge, len(probe) > len(prepared.probe)
    if gauge.raised > 1 or (grown and gauge.choice == 'absolute' and not gauge.held):
        # Modes that were not given had no power in the probe; what the brightest part of the object lets pass tells it.
        amplitude = np.float32(max(1.0, brightest_amplitude(canvas, engine.illumination)))
        canvas, probe = canvas / amplitude, probe * amplitude
    return Refined(
        canvas,
        probe,
        tuple(history.residuals),
        stopped,
        moved,
        guard.taken_back,
        guard.start_dropped,
        probe_asked_for=history.found_probe,
        background=engine.prepared.background,
        intensity=engine.prepared.intensity,
    )


def _lost_to_the_prior(engine: Engine) -> float:
    """The amplitude that smoothing has cost: a mean of complex numbers is shorter than they are."""
    scale = count_gauge(_as_placed(engine), engine.canvas, engine.probe, engine.arrays)
    return scale if abs(scale - 1) <= LARGEST_CHANGE else 1.0


def _as_placed(engine: Engine) -> PreparedScan:
    """The scan with the positions as they are by now."""
    found = engine.displacements
    return engine.prepared if found is None else displace_scan(engine.prepared, found.values)


class _Distorted(Exception):  # noqa: N818 - not an error
    """The positions need to be mapped as a whole."""

    def __init__(self, begun: Trial, needed: AffineMap) -> None:
        super().__init__()
        self.begun, self.needed = begun, needed


def _look_for_distortion(engine: Engine) -> None:
    canvas = engine.arrays.get(engine.canvas)
    found = estimate_affine(_as_placed(engine), canvas, engine.probe, arrays=engine.arrays)
    if found.needed:
        raise _Distorted(Trial(canvas, engine.probe, engine.prepared), found)


def map_scan(engine: Engine, guard: Guard) -> None:
    """Turn, shear and scale all positions, and the object with them, where the patterns ask for it."""
    placed, canvas = _as_placed(engine), engine.arrays.get(engine.canvas)
    found = estimate_affine(placed, canvas, engine.probe, arrays=engine.arrays)
    if not found.needed or engine.displacements is None:
        return
    engine.canvas = engine.arrays.put(carry_object(canvas, placed, found.matrix))
    engine.velocity[:] = 0
    engine.prepared = displace_scan(engine.prepared, affine_displacements(placed, found.matrix))
    engine.displacements.positions = engine.prepared.positions
    engine.measure_illumination()
    guard.begun.clear()  # of positions that are no more


def _attempt(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    *,
    options: RefineOptions,
    arrays: Arrays,
    emit: Emit,
    should_stop: ShouldStop,
) -> Trial:
    """A few passes with the positions as they are; raises _Stopped."""
    passes = options.alignment_passes(prepared, probe)
    short = replace(options, passes=passes, refine_positions=False, probe_from_pass=1, modes=0)

    def progress(event: Event) -> None:
        if isinstance(event, Progress):
            emit(replace(event, stage='align'))

    refined = _refine(prepared, canvas, short, probe=probe, arrays=arrays, emit=progress, should_stop=should_stop)
    if refined.stopped:
        raise _Stopped
    known = replace(prepared, background=refined.background, intensity=refined.intensity)
    return Trial(refined.canvas, refined.probe, known)


class _Stopped(Exception):  # noqa: N818 - not an error
    """The job was asked to stop."""


@dataclass(eq=False)
class _History:
    """The passes that were made, and what they say about the next one.

    `course`: how to go on after the first `before` passes; that is `options` until the patterns ask for another probe.
    """

    options: RefineOptions
    n_patterns: int
    emit: Emit
    should_stop: ShouldStop
    residuals: list[float] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)
    before: int = 0
    start: Array | None = None
    asked: bool = False
    found_probe: bool = False
    course: RefineOptions = field(init=False)

    def __post_init__(self) -> None:
        self.course = self.options

    def ask_for_probe(self, engine: Engine, guard: Guard) -> None:
        """Go on with the probe that the patterns ask for, if it is time and they do, and improve it from now on."""
        options, number = self.options, len(self.residuals)
        if options.modes is not None or self.asked:
            return
        judged = options.refine_probe and number == first_asked(options.passes, refined=True)
        if judged and self.residuals[-1] > HOPELESS:
            return self._begin_anew(engine, guard)
        if not asks_after(self.residuals, options.passes, refined=options.refine_probe):
            return
        self.asked = True
        found = find_modes(engine, self.residuals[-1])
        if found is None and not options.refine_probe:
            return
        if found is not None:
            engine.set_probe(found)
            engine.measure_illumination()
            self.found_probe = True
            guard.gain = 1.0  # what went wrong so far may have been the probe
            self.options = replace(options, passes=max(options.passes, options.passes_with_probe))
        self.before = number
        self.course = options.with_probe(self.options.passes - number, known=True)

    def _begin_anew(self, engine: Engine, guard: Guard) -> None:
        """Begin again with a probe that moves from the outset, and slowly: nothing found with the one given is worth
        keeping, nor are the passes that told so counted."""
        assert self.start is not None
        self.asked, self.before = True, len(self.residuals)
        self.options = replace(self.options, passes=self.options.passes + self.before)
        course = self.options.with_probe(self.options.passes - self.before, known=False)
        self.course = replace(course, probe_from_pass=PROBE_FROM_PASS)
        engine.canvas = 1 * self.start
        engine.velocity[:] = 0
        guard.gain, guard.last = 1.0, np.inf

    def run_pass(self, engine: Engine, guard: Guard, drawn: list[NDArray[np.int64]]) -> bool:
        """Visit each batch once; whether it stays so."""
        number = len(self.residuals) + 1
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
            if len(engine.probe) > 1:
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

    def _within_batch(self, before: int, done: int) -> None:
        if time.monotonic() - self.heard > LISTEN:
            self._listen()
            self._tell(before + done)

    def _listen(self) -> None:
        if self.should_stop():
            raise _Stopped

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


def scan_dose(prepared: PreparedScan) -> float:
    """Counts per object pixel of a scan, averaged over what the probe lights well."""
    return mean_dose(illumination(prepared.layout, prepared.probe))


def _check(prepared: PreparedScan, canvas: NDArray[np.complex64], probe: NDArray[np.complex64]) -> None:
    if canvas.shape != prepared.layout.shape:
        raise ScanError(
            f'The starting object has shape {canvas.shape}; the canvas of this scan is {prepared.layout.shape}.'
        )
    side = prepared.n_pixels
    if probe.ndim != 3 or probe.shape[1:] != (side, side):
        raise ScanError(f'The probe has shape {probe.shape}; expected (modes, {side}, {side}) in sqrt(counts).')
    if not (np.isfinite(canvas).all() and np.isfinite(probe).all()):
        raise ScanError('The starting object or the probe holds NaN or infinity; hand in another one.')
