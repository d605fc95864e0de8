"""The end of every reconstruction: refine it, say how far it can be trusted, put it into a Result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Interrupted
from ..events import Done, Emit, Event, Notice, Previews, Progress, ShouldStop
from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.alignment import carry_object
from ..physics.engine.options import RefineOptions
from ..physics.engine.positions import displace_scan
from ..physics.engine.refine import Refined, refine
from ..physics.engine.residuals import residuals
from ..physics.geometry import scan_area
from ..physics.learned.shipped import shipped_network
from ..physics.learned.step import LearnedStep, take_step
from ..physics.prepare import PreparedScan
from ..result import Reconstruction, RunInfo, Verdict
from .diagnostics import Reliability, Source, assess, refined_halves
from .error_bars import estimate_error
from .initial_object import InitialObject
from .notices import learned_notice, refinement_notices
from .report import Report, StageTimes
from .showing import describe_result, format_result, plot_result
from .verdict import judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Result:
    """A reconstruction, the network's own object before refinement (or None), and the report."""

    reconstruction: Reconstruction
    network: NDArray[np.complex64] | None
    report: Report

    @property
    def object(self) -> NDArray[np.complex64]:
        """The object (H, W); index = position + `origin`."""
        return self.reconstruction.object

    @property
    def origin(self) -> tuple[float, float]:
        """Array coordinates [row, column] in `object` of the scan position (0, 0)."""
        return self.reconstruction.origin

    @property
    def probe(self) -> NDArray[np.complex64]:
        """The probe (modes, N, N) in sqrt(counts)."""
        return self.reconstruction.probe

    @property
    def verdict(self) -> Verdict | None:
        """Whether the result can be used."""
        return self.report.run.verdict

    def __repr__(self) -> str:
        return describe_result(self.reconstruction, self.report)

    def _repr_html_(self) -> str:
        return format_result(self.reconstruction, self.report)

    def plot(self) -> Figure:
        """A figure of the amplitude and the phase between the outermost positions; `savefig` writes it to a file."""
        return plot_result(self.reconstruction, self.report)


def finish(
    prepared: PreparedScan,
    start: InitialObject,
    options: RefineOptions,
    run: RunInfo,
    times: StageTimes,
    *,
    notices: Sequence[Notice] = (),
    losses: tuple[tuple[int, float], ...] = (),
    previews: Previews,
    should_stop: ShouldStop,
    arrays: Arrays = NUMPY,
) -> Result:
    """Refine (if any passes are asked for), say how far it can be trusted and put everything into a Result."""
    canvas, probe, halves, learned = start.canvas, prepared.probe, start.halves, None
    refined: Refined | None = None
    uncertainty = start.deviation  # of the network's object, as long as it is that
    source: Source = start.source
    run = replace(run, count_gauge=start.count_gauge, refine_passes=options.passes, wavefront=options.wavefront)
    if options.passes:
        with times.stage('refine', len(prepared) * options.passes):
            refined = refine_with_previews(prepared, canvas, options, previews, should_stop, arrays)
        if refined.stopped:
            raise Interrupted('Stopped before the refinement was complete; nothing is written.')
        run = _refined_run(run, refined, options, arrays)
        notices = (*notices, *refinement_notices(refined))
        canvas, probe = refined.canvas, refined.probe
        if refined.affine is not None and halves:
            halves = tuple(carry_object(half, prepared, refined.affine) for half in halves)
        prepared = replace(
            prepared, background=refined.background, intensity=refined.intensity, variation=refined.variation
        )
        if refined.displacements is not None:
            prepared = displace_scan(prepared, refined.displacements)
        if options.learned_step:
            with times.stage('learned_step', len(prepared)):
                step = take_shipped_step(prepared, canvas, probe, arrays)
            canvas, learned, change = step.canvas, step.change, changed_by(prepared, step)
            run, notices = replace(run, learned_change=change), (*notices, learned_notice(change))
        losses = losses or tuple(enumerate(run.residual_by_pass, start=1))
        if halves:
            with times.stage('refine_halves', len(prepared) * options.passes):
                refine_half = half_refiner(options, probe, previews.emit, should_stop, arrays)
                halves = refined_halves(prepared, halves, refine_half)
    with times.stage('residual', len(prepared)):
        misfit = residuals(prepared, canvas, probe, arrays=arrays)
    if refined is not None:
        with times.stage('error_bars', len(prepared)):
            uncertainty, source = estimate_error(prepared, refined, misfit.noise_ratio, arrays), 'result'
    with times.stage('reliability', len(prepared)):
        reliability = assess(
            prepared,
            misfit,
            probe,
            uncertainty=uncertainty,
            source=source,
            halves=halves,
            from_network=start.deviation is not None,
            outside=run.outside_training,
        )
        reliability = replace(reliability, learned_change=learned)
        run = replace(run, verdict=judge(prepared, run, reliability, canvas, probe, arrays))
    scan, numbers = prepared.scan, prepared.scan.pattern_indexes
    reconstruction = Reconstruction(
        object=canvas,
        origin=prepared.layout.origin,
        probe=probe,
        positions=scan.positions,
        pixel_size=scan.pixel_size,
        name=str(scan.metadata.get('name', 'ptychopinn')),
        comments=comment_on(run, reliability),
        losses=losses,
        metadata=dict(scan.metadata)
        | ({} if numbers is None else {'probe_position_indexes': numbers})
        | ({} if scan.fresnel_number is None else {'fresnel_number': scan.fresnel_number})
        | detector_metadata(prepared)
        | variation_metadata(prepared, probe)
        | ({'uncertainty': uncertainty} if source == 'result' and uncertainty is not None else {}),
    )
    report = Report(run, reliability, (*notices, *start.notices), times.stages)
    previews.emit(Done(residual=report.residual))
    return Result(reconstruction, start.canvas, report)


def take_shipped_step(
    prepared: PreparedScan, canvas: NDArray[np.complex64], probe: NDArray[np.complex64], arrays: Arrays
) -> LearnedStep:
    """The learned step of the network that comes with the package, after the passes."""
    shipped = shipped_network()
    return take_step(prepared, canvas, shipped.network, probe=probe, strength=shipped.strength, arrays=arrays)


def changed_by(prepared: PreparedScan, step: LearnedStep) -> float:
    """Rms of what a learned step has changed between the outermost positions, in transmission."""
    area = scan_area(prepared.scan.positions, prepared.layout.origin)
    return float(np.sqrt(np.mean(step.change[area] ** 2)))


def detector_metadata(prepared: PreparedScan) -> dict[str, NDArray[np.float32]]:
    """What was found of the detector: `background` (N, N) in counts, `intensity` (n,) in the order of the scan file."""
    found = {} if prepared.background is None else {'background': prepared.background}
    if prepared.intensity is not None:
        found['intensity'] = np.empty_like(prepared.intensity)
        found['intensity'][prepared.order] = prepared.intensity
    return found


def variation_metadata(prepared: PreparedScan, probe: NDArray[np.complex64]) -> dict[str, NDArray[Any]]:
    """How the probe (modes, N, N) varies: `probe_components` (k, N, N), and `opr_weights` (n, 1 + k) of its first mode
    and of these, in the order of the scan file, as Ptychodus has them."""
    if prepared.variation is None:
        return {}
    weights = prepared.variation.relaxation_weights(probe)
    in_file = np.empty_like(weights)
    in_file[prepared.order] = weights
    return {'probe_components': prepared.variation.components, 'opr_weights': in_file}


def _refined_run(run: RunInfo, refined: Refined, options: RefineOptions, arrays: Arrays) -> RunInfo:
    """`run` with how the refinement went."""
    moved, background, intensity = refined.displacements, refined.background, refined.intensity
    return replace(
        run,
        refine_prior=options.prior,
        refine_passes=len(refined.residuals),
        refine_device=arrays.device,
        residual_by_pass=tuple(float(value) for value in refined.residuals),
        displacement_rms=None if moved is None else float(np.sqrt((moved**2).mean())),
        background=None if background is None else float(background.mean()),
        intensity_deviation=None if intensity is None else float(intensity.std()),
    )


def half_refiner(
    options: RefineOptions,
    probe: NDArray[np.complex64],
    emit: Emit,
    should_stop: ShouldStop,
    arrays: Arrays,
) -> Callable[[PreparedScan, NDArray[np.complex64]], NDArray[np.complex64]]:
    """The same refinement for one half of the patterns, with the probe that was refined on the whole scan."""
    # Halves take no learned step: what they agree on is then the data's.
    fixed = replace(options, refine_probe=False, modes=0, refine_positions=False, background='off', intensity='off')

    def progress(event: Event) -> None:
        if isinstance(event, Progress):
            emit(replace(event, stage='refine half'))

    def refine_half(part: PreparedScan, canvas: NDArray[np.complex64]) -> NDArray[np.complex64]:
        refined = refine(part, canvas, fixed, probe=probe, arrays=arrays, emit=progress, should_stop=should_stop)
        if refined.stopped:
            raise Interrupted('Stopped before the halves of the scan were refined; nothing is written.')
        return refined.canvas

    return refine_half


def comment_on(run: RunInfo, reliability: Reliability) -> str:
    """One line for a product's comments: what made it, and how far it can be trusted."""
    moved = '' if run.displacement_rms is None else f'positions moved by {run.displacement_rms:.2f} px rms, '
    detector = '' if run.background is None else f'background of {run.background:.2g} counts a pixel, '
    if run.intensity_deviation is not None:
        detector += f'beam varies by {run.intensity_deviation:.1%} rms, '
    judged = '' if run.verdict is None else f' {run.verdict.sentence}'
    where = '' if run.refine_device is None else f' on {run.refine_device}'
    return (
        f'ptychopinn-reconstructor: {run.model_type}, backend {run.backend}, {run.refine_passes} '
        f'refinement passes{where}, probe from {run.probe_source}, power {run.probe_power}, '
        f'{moved}{detector}{reliability.line()}.{judged}'
    )


def refine_with_previews(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    options: RefineOptions,
    previews: Previews,
    should_stop: ShouldStop,
    arrays: Arrays = NUMPY,
) -> Refined:
    """`refine` with a preview after a pass."""

    def after_pass(number: int, canvas: NDArray[np.complex64]) -> None:
        last = number == options.passes
        previews.offer('refine', canvas.copy, prepared.layout.origin, complete=last, epoch=number, total=options.passes)

    return refine(
        prepared,
        canvas,
        options,
        arrays=arrays,
        emit=previews.emit,
        should_stop=should_stop,
        after_pass=after_pass,
    )
