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
from ..arrays import NUMPY, Arrays
from ..illumination import illumination
from ..prepare import PreparedScan
from ..sampling import scan_overlap
from ..stitching.count_scale import LARGEST_CHANGE, count_gauge
from .affine import AffineMap, estimate_affine
from .alignment import Trial, align_scan, fits_better
from .batches import even_sampling
from .detector import Switch
from .detector_fit import DetectorFit
from .far_field_step import FarFieldStep
from .guard import Guard
from .positions import Displacements, displace_scan
from .prior import Smoothness, mean_dose
from .update import PRIOR_COUNTS, Engine, ObjectStep
from .wavefront import correct_long_range_phase

SMALLEST_BATCH = 4  # patterns; smaller batches only add noise
FIRST_BATCHES = 16  # of the first pass
BATCHES_A_PASS = 4  # of the first pass, for each pass that there is
SETTLING_PASSES = 3  # passes of probe update before the long-range phase can be relied on
HOLD = 0.7  # share of the passes that keep the first number of batches while the probe is refined
MOMENTUM = 0.6, 0.87  # for no light and for much: momentum keeps the noise of many batches
HORIZON = 1.8  # 1 - momentum is this over the passes, at least
WELL_TIED, LOOSE = 0.65, 0.2  # overlap at which few passes do, and most are needed
WITH_PROBE = 20  # passes at least where the probe or the positions are refined too
SCARCE = 15.0  # counts per object pixel half way between those, and at which the prior, which blurs texture, is halved
FADING = 0.5  # share of the passes over which momentum fades to none
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
    first_batches
        Batches in the first pass, at least four patterns each; their number falls to one in the last pass.
    momentum
        Share of the last step that is repeated, 0 to below 1, in the first half of the passes, from where it fades
        to none; none suits a probe not yet known.
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
    probe_from_pass: int = 3
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
        refine_positions: bool = False,
        wavefront: bool = True,
        background: Switch = 'auto',
        intensity: Switch = 'auto',
        seed: int = 0,
    ) -> RefineOptions:
        """The settings for a scan of a dose (counts per object pixel) and overlap, from a network's object or none."""
        if passes is None:
            passes = automatic_passes(overlap, from_network=from_network, more=refine_probe or refine_positions)
        return cls(
            passes,
            refine_probe,
            first_batches=2 * FIRST_BATCHES if refine_probe and passes > 2 else FIRST_BATCHES,
            momentum=0.0 if refine_probe else automatic_momentum(dose, passes),
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
        return ObjectStep(self.momentum * min(1.0, left / FADING))

    def alignment_passes(self, prepared: PreparedScan, probe: NDArray[np.complex64]) -> int:
        """Passes after which an object shows whether the positions must be turned, sheared or scaled as a whole."""
        overlap = scan_overlap(prepared.positions, probe)
        settled = automatic_passes(overlap, from_network=False, more=False) // 2
        return settled + (SETTLING_PASSES if self.refine_probe else 0)

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
    than an empty one, which took its place. `affine`: the matrix (2, 2) that all positions were multiplied by about
    their mean, within the displacements, or None. `background` (N, N) in counts and `intensity` (n,), the factors on
    the power of the beam in canonical order, or None where there is none (see `detector`).
    """

    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    residuals: tuple[float, ...]
    stopped: bool = False
    displacements: NDArray[np.float64] | None = None
    taken_back: int = 0
    start_dropped: bool = False
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
    stopped = False
    try:
        guard.drop_poor_start()
        for count in options.schedule(len(prepared)):
            guard.begin_pass()
            detector.begin_pass(len(history.residuals) + 1)
            better = history.run_pass(engine, guard, even_sampling(prepared.positions, count, generator))
            number = len(history.residuals)
            if better and not detector.end_pass(number, history.residuals[-1]):
                guard.forget()
            if smoothness is not None and better:
                engine.canvas = smoothness(engine.canvas, history.between)
            if smoothness is not None and number == options.passes:
                engine.canvas *= _lost_to_the_prior(engine)
            if options.solves_wavefront(number):
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
            if number == options.passes:
                guard.end()
                detector.end()
            if watch and number == min(options.passes, options.alignment_passes(prepared, probe)):
                _look_for_distortion(engine)
            if after_pass is not None:
                after_pass(number, arrays.get(engine.canvas))
    except _Stopped:
        stopped = True
    found = None if engine.displacements is None else engine.displacements.values
    return Refined(
        arrays.get(engine.canvas),
        engine.probe,
        tuple(history.residuals),
        stopped,
        found,
        guard.taken_back,
        guard.start_dropped,
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
        raise _Distorted(Trial(canvas, engine.probe), found)


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
    short = replace(options, passes=passes, refine_positions=False, probe_from_pass=1)

    def progress(event: Event) -> None:
        if isinstance(event, Progress):
            emit(replace(event, stage='align'))

    refined = _refine(prepared, canvas, short, probe=probe, arrays=arrays, emit=progress, should_stop=should_stop)
    if refined.stopped:
        raise _Stopped
    return Trial(refined.canvas, refined.probe)


class _Stopped(Exception):  # noqa: N818 - not an error
    """The job was asked to stop."""


@dataclass(eq=False)
class _History:
    """The passes that were made, and what they say about the next one."""

    options: RefineOptions
    n_patterns: int
    emit: Emit
    should_stop: ShouldStop
    residuals: list[float] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)

    def run_pass(self, engine: Engine, guard: Guard, drawn: list[NDArray[np.int64]]) -> bool:
        """Visit each batch once; whether it stays so."""
        number = len(self.residuals) + 1
        options = self.options
        with_probe = options.refine_probe and number >= options.probe_from_pass
        with_positions = options.refine_positions and number >= options.positions_from_pass
        step = guard.limit(options.step(number))
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
