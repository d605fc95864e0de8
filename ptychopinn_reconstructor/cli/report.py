"""What a command tells at its end: aligned text for people, JSON for programs, metrics.json for both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..events import Notice
    from ..physics.scoring.metrics import Comparison
    from ..reconstruction.finish import Result

SMALLEST_PERIOD = 2.0  # pixels: no image holds a finer one
RESOLUTIONS = {'half': '0.5', 'seventh': '1/7', 'half_bit': 'half-bit'}


def show(values: Mapping[str, Any], *, as_json: bool, text: Iterable[str]) -> None:
    """Print `values` as JSON, or the lines of `text`."""
    if as_json:
        from ..reconstruction.writing import finite

        click.echo(json.dumps(finite(values), indent=2, allow_nan=False))
    else:
        for line in text:
            click.echo(line)


def pairs(values: Mapping[str, Any]) -> list[str]:
    """Aligned 'key  value' lines; None and empty values are left out."""
    shown = {key: _text(value) for key, value in values.items() if value not in (None, '', [], ())}
    width = max((len(key) for key in shown), default=0)
    return [f'{key:<{width}}  {value}' for key, value in shown.items()]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ['  '.join(_aligned(cell, widths[i], i) for i, cell in enumerate(line)).rstrip() for line in lines]


def notes(sentences: Iterable[str]) -> list[str]:
    """Notes for the user, one a line."""
    return [f'note: {sentence}' for sentence in sentences]


def metrics_of(
    result: Result,
    image: Comparison | None,
    network: Comparison | None,
    cpu_seconds: float,
    notices: Sequence[Notice] = (),
) -> dict[str, Any]:
    """What metrics.json holds: how the result was made, how good it is, and what it has cost.

    `notices` come before those of the result.
    """
    from ..io.system import measure_peak_memory

    report = result.report
    compared = {'image': image, 'image_network': network}
    return {
        **report.run.to_json(),
        'residual': report.residual,
        'trust': report.trust.to_json(),
        'stages': report.stages,
        'cpu_seconds': round(cpu_seconds, 3),
        'peak_memory_mib': round(measure_peak_memory(), 1),
        'notes': [notice.text for notice in (*notices, *report.notices)],
        **{key: comparison.to_dict() for key, comparison in compared.items() if comparison is not None},
        'residual_per_pattern': report.residual_per_pattern,
    }


def result_lines(metrics: Mapping[str, Any], files: Mapping[str, Any]) -> list[str]:
    """The summary of a reconstruction."""
    stages = metrics['stages']
    speed = ', '.join(f'{name} {stage["patterns_per_second"]:.0f}' for name, stage in stages.items())
    head = {
        'patterns': metrics['patterns'],
        **trust_rows(metrics['trust']),
        'patterns per second': speed,
        'CPU time': f'{metrics["cpu_seconds"]:.1f} s',
        'peak memory': f'{metrics["peak_memory_mib"]:.0f} MiB',
    }
    lines = pairs(head)
    for key, title in (('image_network', 'network alone against the truth'), ('image', 'against the truth')):
        if key in metrics:
            lines += [f'{title}:', *(f'  {line}' for line in image_lines(metrics[key]))]
    return [*lines, *notes(metrics['notes']), *pairs(files)]


def trust_rows(trust: Mapping[str, Any]) -> dict[str, Any]:
    """How far a result can be trusted: residual, R-factor, uncertainty and resolution, as far as they are known."""
    split = trust.get('split_frc')
    return {
        'residual': trust['residual'],
        'R-factor': trust.get('r_factor'),
        'uncertainty, median': trust.get('uncertainty_median'),
        'half-data FRC 1/7': resolution(split['resolution']['seventh']) if split else None,
    }


def resolution(found: Mapping[str, float | None]) -> str:
    """A resolution of `FRC.to_json` as text, in pixels and where that is known in nanometers."""
    if found['pixels'] is None:
        return 'none'
    nanometers = '' if found['nm'] is None else f' = {found["nm"]:.3g} nm'
    return f'{found["pixels"]:.2f} px{nanometers}{" or better" if found["pixels"] <= SMALLEST_PERIOD else ""}'


def image_lines(metrics: Mapping[str, float]) -> list[str]:
    """The leading image metrics with their units."""
    from ..physics.scoring.metrics import LEADING

    parts = {key: label.partition(', ') for key, label in LEADING.items()}
    return pairs({name: f'{metrics[key]:.4g} {unit}'.rstrip() for key, (name, _, unit) in parts.items()})


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
