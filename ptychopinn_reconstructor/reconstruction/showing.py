"""A result as a notebook shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display.document import Gallery, Items, Part, Table, Text, format_fragment
from ..display.pictures import picture_values
from ..physics.geometry import scan_area
from ..physics.scoring.frc import describe_half_data
from ..result import Reconstruction
from .report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def describe_result(result: Reconstruction, report: Report) -> str:
    """One line: what it is, what made it, and whether it can be used."""
    run, (height, width) = report.run, result.object.shape
    made = run.model_type + (f', {run.refine_passes} passes' if run.refine_passes else '')
    judged = (
        '' if run.verdict is None else f', fits to {run.verdict.ratio:.3g} times counting noise: {run.verdict.word}'
    )
    return f'Result({height} x {width} pixels of {run.patterns} patterns, by {made}{judged})'


def format_result(result: Reconstruction, report: Report) -> str:
    """HTML of the verdict, the object and the probe, how far they can be trusted, and the notices."""
    verdict, reliability = report.run.verdict, report.reliability
    parts: list[Part] = [] if verdict is None else [Text(verdict.sentence, verdict.word)]
    pictures = result.picture()
    if reliability.uncertainty is not None:
        shown = reliability.uncertainty[scan_area(result.positions, result.origin)]
        pictures.append(picture_values(shown, 'Uncertainty of the object'))
    parts += [Gallery(pictures), Table(('', ''), [*_list_facts(report).items()])]
    return format_fragment(describe_result(result, report), [*parts, Items([notice.text for notice in report.notices])])


def _list_facts(report: Report) -> dict[str, str]:
    run, reliability = report.run, report.reliability
    facts = {
        'backend, device': f'{run.backend}, {run.device}',
        'residual, R-factor': f'{report.residual:.4g}, {reliability.misfit.r_factor:.3g}',
        'time': f'{sum(stage["wall_seconds"] for stage in report.stages.values()):.1f} s',
    }
    if reliability.split is not None:
        found = describe_half_data(reliability.split.to_json(reliability.pixel_size)['resolution'])
        facts['half-data FRC'] = found
    return facts


def plot_result(result: Reconstruction, report: Report) -> Figure:
    """A figure of the amplitude and the phase between the outermost positions."""
    from ..io.drawing import show_in_notebooks
    from ..io.images import draw_amplitude_phase

    shown = result.object[scan_area(result.positions, result.origin)]
    verdict = report.run.verdict
    title = '' if verdict is None else f'fits to {verdict.ratio:.3g} times counting noise: {verdict.word}'
    return show_in_notebooks(draw_amplitude_phase(shown, pixel_size=result.known_pixel_size, title=title))
