"""Refinement of an object, and of the probe, by the classical engine: after a prediction, or alone.

A pass visits each pattern once, in batches that each sample the scan evenly (`batches`), drawn from the canonical order
with the seed, so that neither the order of a file nor a constant added to its positions changes the result. Many small
batches move fast, and the noise that they leave is averaged away at the end: alone, by a number of batches that falls
from pass to pass to a single large one; after a network, by steps that remember what earlier batches have brought.
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
from ...events import Emit, Epoch, Progress, ShouldStop, ignore, never
from ..arrays import NUMPY, Arrays
from ..illumination import illumination
from ..prepare import PreparedScan, even_batches
from ..residual import Residual, residual
from ..stitching.count_scale import LARGEST_CHANGE, count_gauge
from .batches import even_sampling
from .far_field_step import FarFieldStep
from .positions import Displacements, displace_scan
from .prior import Smoothness, mean_dose
from .update import PRIOR_COUNTS, Engine, ObjectStep
from .wavefront import correct_long_range_phase

LONG_RANGE_GAIN = 0.3  # of a Newton step for the long-range phase; stable up to about 1
SMALLEST_BATCH = 4  # patterns; smaller batches only add noise
BATCH_PATTERNS, FEWEST_BATCHES, MOST_BATCHES = 57, 8, 24  # of the first pass after a network
SETTLING_PASSES = 3  # passes of probe update before the long-range phase can be trusted
HOLD = 0.7  # share of the passes that keep the first number of batches while the probe is refined
SHORT = ((0.7, 0.3), (0.3, 0.5))  # momentum and memory of the last two passes, where there are no more
AVERAGED_BLEND = 0.2  # b where batches are averaged
RISING = 1.5  # power of the share of the passes made with which the memory rises from 0 to 1
LISTEN = 0.25  # seconds at most without progress and without asking whether to stop, in a large batch
LONG = 20  # passes when probe or positions are refined too, and where spots overlap less than `SPARSE`
SPARSE = 0.55  # overlap; below it the phases of neighbors are tied loosely, and come together slowly
SPARSEST, LONGEST = 0.4, 60  # overlap below which that takes so many passes
LOW_DOSE = 500.0  # counts per object pixel; below it more passes of fewer batches pay, with the prior
DAMPED = 2 / 3  # of the mean illumination: tau at most, where the prior already holds the noise down
RISE = 1.02  # a residual that grows by more from one pass to the next calls for a smaller step


AfterPass = Callable[[int, NDArray[np.complex64]], None]


@dataclass(frozen=True)
class RefineOptions:
    """How to refine; `after_network` and `alone` give the settings measured to be best.

    Parameters
    ----------
    passes
        Times that each pattern is visited; 0 leaves everything as it is.
    refine_probe, probe_from_pass
        Whether the probe is updated too, its power held, and from which pass on (the first pass is 1).
    first_batches
        Batches in the first pass, at least four patterns each; their number falls to one in the last pass. None: of
        about 57 patterns each, from 8 to 24 of them.
    momentum
        Share of the last step that is repeated, 0 to below 1; none suits a few passes or a probe not yet known.
    refine_positions, positions_from_pass, largest_displacement
        Whether the scan positions are updated too, from which pass on, and how far from the scan's own, pixels.
    averaging
        Whether a batch is averaged with the earlier ones, the more so the later the pass, instead of overwriting them;
        the number of batches is then held.
    prior
        Strength of the smoothness prior after each pass (`smoothness`), 1: as measured best; 0: none.
    wavefront
        Whether the long-range phase is solved for from the slopes of all patterns after the last pass (`wavefront`).
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
    first_batches: int | None = 8
    momentum: float = 0.0
    averaging: bool = False
    prior: float = 0.0
    refine_positions: bool = False
    positions_from_pass: int = 3
    largest_displacement: float = 5.0
    wavefront: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise ConfigError(f'The number of refinement passes is {self.passes}; it must be 0 or more.')
        counted = {name: getattr(self, name) for name in ('probe_from_pass', 'positions_from_pass', 'first_batches')}
        for name, value in counted.items():
            if value is not None and value < 1:
                raise ConfigError(f'{name} is {value}; it counts from 1.')
        if not 0 < self.largest_displacement < math.inf:
            raise ConfigError(f'The largest displacement is {self.largest_displacement} pixels; it must be above 0.')
        if not 0 <= self.momentum < 1:
            raise ConfigError(f'The momentum is {self.momentum}; it must be at least 0 and below 1.')
        if not 0 <= self.prior < math.inf:
            raise ConfigError(f'The strength of the prior is {self.prior}; it must be 0 or more.')

    @classmethod
    def after_network(
        cls,
        passes: int | None = None,
        *,
        dose: float = math.inf,
        overlap: float = 1.0,
        prior: float = 1.0,
        refine_probe: bool = False,
        refine_positions: bool = False,
        wavefront: bool = True,
        seed: int = 0,
    ) -> RefineOptions:
        """From a network's object, with the prior: as many passes as dose (counts per object pixel) and overlap ask.

        Five passes of batches of 57 patterns that are averaged, twenty where `overlap` is below `SPARSE` and sixty
        where it is below `SPARSEST`; ten from 4 batches with more momentum below `LOW_DOSE`; at least twenty where
        probe or positions are refined too.
        """
        sparse, more = overlap < SPARSE, refine_probe or refine_positions
        low = dose < LOW_DOSE and not sparse  # with little overlap much momentum runs away
        if passes is None:
            passes = LONGEST if overlap < SPARSEST else LONG if more or sparse else 10 if low else 5
        first = 32 if refine_probe and passes > 2 else 4 if low and passes > 2 else None
        averaging = not (low or more)
        momentum = 0.0 if passes < 2 or refine_probe else 0.3 if averaging else 0.8 if low else 0.5
        options = cls(passes, refine_probe, first_batches=first, momentum=momentum, prior=prior, seed=seed)
        return replace(options, refine_positions=refine_positions, averaging=averaging, wavefront=wavefront)

    @classmethod
    def alone(
        cls,
        passes: int,
        *,
        prior: float = 0.0,
        refine_probe: bool = False,
        refine_positions: bool = False,
        wavefront: bool = False,
        seed: int = 0,
    ) -> RefineOptions:
        """The engine from an empty canvas, neither prior nor wavefront step unless asked: 16 batches and momentum; 32
        and none while it refines the probe."""
        first, momentum = (32, 0.0) if refine_probe else (16, 0.5)
        options = cls(passes, refine_probe, first_batches=first, momentum=momentum, prior=prior, seed=seed)
        return replace(options, refine_positions=refine_positions, wavefront=wavefront)

    def batches(self, n_patterns: int) -> int:
        """Batches of the first pass for a scan of `n_patterns`."""
        first = self.first_batches or min(MOST_BATCHES, max(FEWEST_BATCHES, round(n_patterns / BATCH_PATTERNS)))
        return min(first, max(1, n_patterns // SMALLEST_BATCH))

    def schedule(self, n_patterns: int) -> list[int]:
        """Number of batches of each pass for a scan of `n_patterns`."""
        most = self.batches(n_patterns)
        if self.averaging:
            return [most] * self.passes
        last = min(most, 1 if self.passes > 2 else 2)
        held = round(HOLD * self.passes) if self.refine_probe and self.passes > self.probe_from_pass else 1
        falls = self.passes - held
        tail = [max(1, round(most * (last / most) ** (t / falls))) for t in range(1, falls + 1)]
        return [most] * min(held, self.passes) + tail

    def step(self, number: int) -> ObjectStep:
        """How the batches of pass `number` (from 1) move the object; no long-range step before a probe has settled."""
        settled = not self.refine_probe or number >= self.probe_from_pass + SETTLING_PASSES
        step = ObjectStep(self.momentum, LONG_RANGE_GAIN if settled else 0.0)
        if not self.averaging:
            return step
        if self.passes <= len(SHORT):
            momentum, memory = SHORT[-self.passes :][number - 1]
            return replace(step, momentum=momentum, memory=memory, blend=AVERAGED_BLEND)
        return replace(step, memory=((number - 1) / (self.passes - 1)) ** RISING, blend=AVERAGED_BLEND)


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined canvas (H, W), the probe (modes, N, N) in sqrt(counts), and how it went.

    `residuals`: overall normalized residual of each complete pass, each batch measured just before its own step.
    `displacements` (n, 2) of the positions, pixels in canonical order, or None when they were not refined.
    `stopped`: the job was asked to stop; canvas and probe are those of the last complete batch.
    """

    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    residuals: tuple[float, ...]
    stopped: bool = False
    displacements: NDArray[np.float64] | None = None


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
    residual). `after_pass` is handed the number of the pass and the canvas, which later passes change. Raises ScanError
    when the canvas or probe does not fit the scan, TrainingError when the residual is not finite any more.
    """
    probe = prepared.probe if probe is None else probe
    _check(prepared, canvas, probe)
    engine = Engine(prepared, canvas, probe, FarFieldStep.for_scan(prepared, arrays))
    if options.refine_positions:
        engine.displacements = Displacements(prepared.positions, options.largest_displacement)
    smoothness = None
    if options.prior:
        smoothness = Smoothness.for_dose(engine.illumination, options.prior, arrays)
        engine.damping = min(PRIOR_COUNTS, DAMPED * mean_dose(engine.illumination))
    history = _History(options, len(prepared), emit, should_stop)
    generator = np.random.default_rng(options.seed)
    stopped = False
    try:
        for count in options.schedule(len(prepared)):
            history.run_pass(engine, even_sampling(prepared.positions, count, generator))
            last = len(history.residuals) == options.passes
            if smoothness is not None:
                engine.canvas = smoothness(engine.canvas, history.between)
                if last:
                    engine.canvas *= _lost_to_the_prior(engine)
            if last and options.wavefront:
                engine.canvas = correct_long_range_phase(
                    _as_placed(engine),
                    engine.canvas,
                    engine.probe,
                    light=engine.illumination,
                    arrays=arrays,
                    after_block=history.within_wavefront,
                )
            if after_pass is not None:
                after_pass(len(history.residuals), arrays.get(engine.canvas))
    except _Stopped:
        stopped = True
    found = None if engine.displacements is None else engine.displacements.values
    return Refined(arrays.get(engine.canvas), engine.probe, tuple(history.residuals), stopped, found)


def _lost_to_the_prior(engine: Engine) -> float:
    """The amplitude that smoothing has cost: a mean of complex numbers is shorter than they are."""
    scale = count_gauge(_as_placed(engine), engine.canvas, engine.probe, engine.arrays)
    return scale if abs(scale - 1) <= LARGEST_CHANGE else 1.0


def _as_placed(engine: Engine) -> PreparedScan:
    """The scan with the positions as they are by now."""
    found = engine.displacements
    return engine.prepared if found is None else displace_scan(engine.prepared, found.values)


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
    gain: float = 1.0
    heard: float = field(default_factory=time.monotonic)

    def run_pass(self, engine: Engine, drawn: list[NDArray[np.int64]]) -> None:
        """Visit each batch once."""
        number = len(self.residuals) + 1
        options = self.options
        with_probe = options.refine_probe and number >= options.probe_from_pass
        with_positions = options.refine_positions and number >= options.positions_from_pass
        step = options.step(number)
        step = replace(step, long_range=self.gain * step.long_range)
        engine.begin_pass()
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
        self._end_pass(engine, number, error / max(counts, 1.0))
        if with_probe:
            if number < options.passes:
                engine.center_probe()
            engine.measure_illumination()
        if with_positions and engine.displacements is not None:
            engine.displacements.remove_affine_part()

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

    def _end_pass(self, engine: Engine, number: int, value: float) -> None:
        if not np.isfinite(value):
            raise TrainingError(
                f'The residual of refinement pass {number} is {value}; check the probe and the starting object, '
                'or use fewer passes.'
            )
        if self.residuals and value > RISE * self.residuals[-1]:
            self.gain /= 2
            engine.velocity[:] = 0
        self.residuals.append(value)
        self.emit(Epoch('refine', number, self.options.passes, residual=value))


def scan_dose(prepared: PreparedScan) -> float:
    """Counts per object pixel of a scan, averaged over what the probe lights well."""
    return mean_dose(illumination(prepared.layout, prepared.probe))


def residuals(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64] | None = None,
    *,
    batch: int = 64,
    arrays: Arrays = NUMPY,
) -> Residual:
    """Normalized residual of a canvas (H, W) and a probe, per pattern in canonical order and overall."""
    there, light = arrays.put(canvas), arrays.put(prepared.probe if probe is None else probe)
    parts = []
    for index in even_batches(np.arange(len(prepared), dtype=np.int64), batch):
        patches = arrays.gather(there, prepared.layout.corners[index], prepared.n_pixels)
        predicted = arrays.get(arrays.diffract(light, patches, prepared.layout.fractions[index]))
        parts.append(residual(predicted, prepared.counts(index), prepared.good))
    return Residual.join(parts)


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
