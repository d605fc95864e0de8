"""The end of every reconstruction: refine it, say how far it can be trusted, put it into a Result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import Interrupted
from ..events import Emit, Event, Previews, ShouldStop
from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.positions import moved_scan
from ..physics.engine.refine import Refined, RefineOptions, refine, residuals
from ..physics.prepare import PreparedScan
from ..result import Reconstruction
from .diagnostics import assess, refined_halves
from .network_object import Report, Start


@dataclass(frozen=True, eq=False)
class Result:
    """A reconstruction, the network's own object before refinement (or None), and the report."""

    reconstruction: Reconstruction
    network: NDArray[np.complex64] | None
    report: Report


def finish(
    prepared: PreparedScan,
    start: Start,
    options: RefineOptions,
    report: Report,
    *,
    losses: tuple[tuple[int, float], ...],
    previews: Previews,
    should_stop: ShouldStop,
    arrays: Arrays = NUMPY,
) -> Result:
    """Refine (if any passes are asked for), say how far it can be trusted and put everything into a Result."""
    canvas, probe, halves = start.canvas, prepared.probe, start.halves
    report.facts |= {
        'refine_passes': options.passes,
        'refine_prior': options.prior if options.passes else 0.0,
        'wavefront': options.wavefront,
    }
    if options.passes:
        report.facts['refine_device'] = arrays.device
        with report.stage('refine', len(prepared) * options.passes):
            found = shown_refinement(prepared, canvas, options, previews, should_stop, arrays)
        if found.stopped:
            raise Interrupted('Stopped before the refinement was complete; nothing is written.')
        canvas, probe = found.canvas, found.probe
        if found.displacements is not None:
            prepared = moved_scan(prepared, found.displacements)
            report.facts['displacement_rms'] = float(np.sqrt((found.displacements**2).mean()))
        report.facts['residual_by_pass'] = [float(value) for value in found.residuals]
        losses = losses or tuple(enumerate(report.facts['residual_by_pass'], start=1))
        if halves:
            with report.stage('refine_halves', len(prepared) * options.passes):
                refine_half = half_refinement(options, probe, previews.emit, should_stop, arrays)
                halves = refined_halves(prepared, halves, refine_half)
    with report.stage('residual', len(prepared)):
        misfit = residuals(prepared, canvas, probe, arrays=arrays)
    with report.stage('trust', len(prepared)):
        report.trust = assess(
            prepared,
            misfit,
            probe,
            uncertainty=start.deviation,
            source=start.source,
            halves=halves,
            outside=report.facts.get('outside_training', ()),
        )
    report.residual = misfit.overall
    report.residual_per_pattern = report.trust.misfit.per_pattern
    scan, numbers = prepared.scan, prepared.scan.pattern_indexes
    reconstruction = Reconstruction(
        object=canvas,
        origin=prepared.layout.origin,
        probe=probe,
        positions=scan.positions,
        pixel_size=scan.pixel_size,
        name=str(scan.metadata.get('name', 'ptychopinn')),
        comments=_comments(report),
        losses=losses,
        metadata=dict(scan.metadata) | ({} if numbers is None else {'probe_position_indexes': numbers}),
    )
    previews.emit(Event('done', {'residual': report.residual}))
    return Result(reconstruction, start.canvas, report)


def half_refinement(
    options: RefineOptions,
    probe: NDArray[np.complex64],
    emit: Emit,
    should_stop: ShouldStop,
    arrays: Arrays,
) -> Callable[[PreparedScan, NDArray[np.complex64]], NDArray[np.complex64]]:
    """The same refinement for one half of the patterns, with the probe that the whole scan has found."""
    fixed = replace(options, refine_probe=False, refine_positions=False)

    def progress(event: Event) -> None:
        if event.kind == 'progress':
            emit(Event('progress', {**event.data, 'stage': 'refine half'}))

    def refine_half(part: PreparedScan, canvas: NDArray[np.complex64]) -> NDArray[np.complex64]:
        found = refine(part, canvas, fixed, probe=probe, arrays=arrays, emit=progress, should_stop=should_stop)
        if found.stopped:
            raise Interrupted('Stopped before the halves of the scan were refined; nothing is written.')
        return found.canvas

    return refine_half


def _comments(report: Report) -> str:
    facts = report.facts
    assert report.trust is not None  # `finish` has seen to it
    moved = f'positions moved by {facts["displacement_rms"]:.2f} px rms, ' if 'displacement_rms' in facts else ''
    where = f' on {facts["refine_device"]}' if 'refine_device' in facts else ''
    return (
        f'ptychopinn-reconstructor: {facts["model_type"]}, backend {facts["backend"]}, {facts["refine_passes"]} '
        f'refinement passes{where}, probe from {facts["probe_source"]}, power {facts["probe_power"]}, {moved}'
        f'{report.trust.line()}.'
    )


def shown_refinement(
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


def flat_canvas(prepared: PreparedScan) -> NDArray[np.complex64]:
    """An empty object: 1 everywhere."""
    return np.ones(prepared.layout.shape, dtype=np.complex64)
