"""Refinement of an object, and of the probe, by the classical engine: after a prediction, or alone.

A pass visits each pattern once, in batches that each sample the scan evenly (`batches`), drawn from the canonical order
with the seed, so that neither the order of a file nor a constant added to its positions changes the result. Many small
batches move fast, and the noise that they leave is averaged away at the end: their number falls from pass to pass to a
single large one. What batches learn slowly, the long-range phase, is solved for in closed form (`wavefront`) after
passes 1, 2, 4, 8 ... and the last, but not just before that.

Nothing may run away: the object is kept within what the counts allow, and a pass that ends worse than it began is taken
back (`guard`), whereupon the engine goes on from where it was best, with less momentum and smaller steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...events import Emit, Event, Progress, ShouldStop, ignore, never
from ..arrays import NUMPY, Arrays
from ..illumination import illumination
from ..prepare import PreparedScan
from ..probe_variation import ProbeVariation
from ..stitching.count_scale import LARGEST_CHANGE, count_gauge
from .alignment import Distorted, Trial, align_scan, fits_better, look_for_distortion, map_scan
from .background import background_share
from .batches import even_sampling
from .detector_fit import DetectorFit
from .far_field_step import FarFieldStep
from .guard import Guard
from .history import History, Stopped
from .modes import brightest_amplitude, set_number
from .options import RefineOptions
from .positions import Displacements
from .prior import Smoothness, hidden_strength, mean_dose
from .strain import relieve_strain, strain_passes
from .update import BLEND, PRIOR_COUNTS, Engine
from .wavefront import FEWEST, correct_long_range_phase

DAMPED = 2 / 3  # of the mean illumination: tau at most, where the prior already holds the noise down


AfterPass = Callable[[int, NDArray[np.complex64]], None]


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined canvas (H, W), the probe (modes, N, N) in sqrt(counts), and how it went.

    `residuals`: overall normalized residual of each complete pass, each batch measured just before its own step.
    `displacements` (n, 2) of the positions, pixels in canonical order, or None when they were not refined.
    `stopped`: the job was asked to stop; canvas and probe are those of the last complete batch. `taken_back`: passes
    that ended worse than they began, and were undone; `start_dropped`: the object handed in explained the patterns less
    than an empty one, which took its place; `probe_asked_for`: the patterns asked for another probe; `probe_replaced`:
    for one that has nothing to do with the given one (`probe_search`). `affine`: the matrix (2, 2) that all positions
    were multiplied by about their mean, within the displacements, or None. `background` (N, N) in counts and
    `intensity` (n,), the factors on the power of the beam in canonical order, or None where there is none (see
    `detector`). `variation` of the probe along the scan, `probe` being its mean, or None. `change` (H, W): what the
    last pass has changed of the canvas, None where none was made.
    """

    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    residuals: tuple[float, ...]
    stopped: bool = False
    displacements: NDArray[np.float64] | None = None
    taken_back: int = 0
    start_dropped: bool = False
    probe_asked_for: bool = False
    probe_replaced: bool = False
    affine: NDArray[np.float64] | None = None
    background: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None
    variation: ProbeVariation | None = None
    change: NDArray[np.complex64] | None = None


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
    except Distorted as distorted:
        begun, first = distorted.begun, distorted.needed
    try:
        attempt = partial(_attempt, options=options, arrays=arrays, emit=emit, should_stop=should_stop)
        aligned = align_scan(prepared, begun, first, attempt, arrays)
        if not fits_better(aligned, prepared, canvas, probe, attempt, arrays):
            return run(prepared, canvas, probe=probe)
    except Stopped:
        return Refined(canvas, probe, (), stopped=True, displacements=np.zeros_like(prepared.positions))
    refined = run(aligned.prepared, aligned.canvas, probe=probe)
    assert refined.displacements is not None
    return replace(refined, displacements=aligned.displacements + refined.displacements, affine=aligned.matrix)


@dataclass(eq=False)
class _Refinement:
    """An engine and what is done beside its batches, after each pass.

    `settled`: passes after which an object shows whether all positions must be mapped.
    """

    options: RefineOptions
    engine: Engine
    guard: Guard
    detector: DetectorFit
    smoothness: Smoothness | None
    history: History
    settled: int

    @classmethod
    def begin(
        cls,
        prepared: PreparedScan,
        canvas: NDArray[np.complex64],
        probe: NDArray[np.complex64],
        options: RefineOptions,
        arrays: Arrays,
        history: History,
    ) -> _Refinement:
        """All that a refinement takes, before its first pass."""
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
        settled = options.alignment_passes(prepared, probe)
        return cls(options, engine, Guard(engine), detector, smoothness, history, settled)

    def run(self, after_pass: AfterPass | None, *, watch: bool) -> bool:
        """Make all passes; whether the job was stopped before. `watch`: raise Distorted where all positions must be
        mapped before anything else."""
        engine, history = self.engine, self.history
        generator, start = np.random.default_rng(self.options.seed), engine.prepared
        try:
            self.guard.drop_poor_start()
            if self.options.refine_probe or self.options.modes is None:
                history.start, history.given = 1 * engine.canvas, engine.probe
            while not history.complete:
                drawn = even_sampling(engine.prepared.positions, history.next_batches(), generator)
                better = self._visit(drawn)
                self._settle()
                answer = history.ask_for_probe(engine, self.guard) if better else 'as it was'
                if answer == 'begun anew':
                    self.detector.begin_anew(start)
                elif answer == 'improved':
                    self.detector.forget_beam()
                    self.guard.forget()
                self._map_positions(watch)
                if after_pass is not None:
                    after_pass(history.number, engine.arrays.get(engine.canvas))
        except Stopped:
            return True
        return False

    def _visit(self, drawn: list[NDArray[np.int64]]) -> bool:
        """Visit each batch once, and learn of detector and texture from it; whether it stays so."""
        engine, history = self.engine, self.history
        self.guard.begin_pass()
        self.detector.begin_pass(history.number + 1 - history.begun_after)
        if not history.run_pass(engine, self.guard, drawn):
            return False
        if not self.detector.end_pass(history.number - history.begun_after, history.residuals[-1]):
            self.guard.forget()
        if self.smoothness is not None:
            hidden = background_share(engine.prepared) * mean_dose(engine.illumination)
            engine.canvas = self.smoothness(engine.canvas, history.between, strength=hidden_strength(hidden))
        return True

    def _settle(self) -> None:
        """Set right what batches leave: amplitude, long-range phase, drift; at the end all that may be wrong."""
        engine, history, number = self.engine, self.history, self.history.number
        if self.smoothness is not None and history.complete:
            engine.canvas *= _lost_to_the_prior(engine)
        if history.solves_wavefront:
            engine.canvas = correct_long_range_phase(
                engine.placed,
                engine.canvas,
                engine.probe,
                light=engine.illumination,
                arrays=engine.arrays,
                after_block=history.within_wavefront,
            )
        number -= history.begun_after
        settled = self.options.settled(number)
        self.detector.correct_drift(number, settled=settled, after_block=history.within_wavefront)
        engine.limit_amplitude()
        if history.complete:
            self.guard.end()
            self.detector.end()

    def _map_positions(self, watch: bool) -> None:
        number, passes = self.history.number, self.options.passes
        if watch and number == min(passes, self.settled):
            look_for_distortion(self.engine)
            return
        if not self.options.refine_positions or not self.settled <= number < passes:
            return
        if number > self.settled and number & (number - 1) == 0 and map_scan(self.engine):
            self.guard.begun.clear()  # of positions that are no more
        elif len(self.engine.prepared) >= FEWEST and number in strain_passes(self.settled, passes):
            relieve_strain(self.engine)

    def result(self, prepared: PreparedScan, *, stopped: bool) -> Refined:
        """What has become of a scan's object and probe."""
        engine, guard = self.engine, self.guard
        canvas, probe = engine.arrays.get(engine.canvas), engine.probe
        change = canvas - engine.arrays.get(guard.begun[-1].canvas) if guard.begun else None
        gauge, grown = prepared.gauge, len(probe) > len(prepared.probe)
        if gauge.raised > 1 or (grown and gauge.choice == 'absolute' and not gauge.held):
            # Modes that were not given had no power in the probe; what the brightest part passes tells it.
            amplitude = np.float32(max(1.0, brightest_amplitude(canvas, engine.illumination)))
            canvas, probe = canvas / amplitude, probe * amplitude
            change = None if change is None else change / amplitude
        return Refined(
            canvas,
            probe,
            tuple(self.history.residuals),
            stopped,
            None if engine.displacements is None else engine.placed.positions - prepared.positions,
            guard.taken_back,
            guard.start_dropped,
            probe_asked_for=self.history.found_probe,
            probe_replaced=self.history.replaced_probe,
            background=engine.prepared.background,
            intensity=engine.prepared.intensity,
            variation=engine.prepared.variation,
            change=change,
        )


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
    """All passes with the positions as a whole as they are; `watch` for a map of them, that raises Distorted."""
    history = History(options, len(prepared), emit, should_stop)
    refinement = _Refinement.begin(prepared, canvas, probe, options, arrays, history)
    stopped = refinement.run(after_pass, watch=watch)
    return refinement.result(prepared, stopped=stopped)


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
    """A few passes with the positions as they are; raises Stopped."""
    passes = options.alignment_passes(prepared, probe)
    short = replace(options, passes=passes, refine_positions=False, probe_from_pass=1, modes=0)

    def progress(event: Event) -> None:
        if isinstance(event, Progress):
            emit(replace(event, stage='align'))

    refined = _refine(prepared, canvas, short, probe=probe, arrays=arrays, emit=progress, should_stop=should_stop)
    if refined.stopped:
        raise Stopped
    known = replace(prepared, background=refined.background, intensity=refined.intensity)
    return Trial(refined.canvas, refined.probe, known)


def _lost_to_the_prior(engine: Engine) -> float:
    """The amplitude that smoothing has cost: a mean of complex numbers is shorter than they are."""
    scale = count_gauge(engine.placed, engine.canvas, engine.probe, engine.arrays)
    return scale if abs(scale - 1) <= LARGEST_CHANGE else 1.0


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
