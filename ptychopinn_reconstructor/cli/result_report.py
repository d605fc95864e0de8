"""The figures of a result: metrics.json for programs, the summary for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..events import Notice
from ..io.system import measure_peak_memory
from ..physics.scoring.frc import describe_half_data
from ..physics.scoring.metrics import LEADING, Comparison
from ..reconstruction.finish import Result
from ..result import Verdict
from .report import format_notes, format_pairs, format_reasons

RESOLUTIONS = {'half': '0.5', 'seventh': '1/7', 'half_bit': 'half-bit'}


def collect_metrics(
    result: Result,
    image: Comparison | None,
    network: Comparison | None,
    cpu_seconds: float,
    notices: Sequence[Notice] = (),
) -> dict[str, Any]:
    """What metrics.json holds: how the result was made, how good it is, and what it has cost.

    `notices` come before those of the result.
    """
    report = result.report
    compared = {'image': image, 'image_network': network}
    return {
        **report.run.to_json(),
        'residual': report.residual,
        'reliability': report.reliability.to_json(),
        'stages': report.stages,
        'cpu_seconds': round(cpu_seconds, 3),
        'peak_memory_mib': round(measure_peak_memory(), 1),
        'notes': [notice.text for notice in (*notices, *report.notices)],
        **{key: comparison.to_dict() for key, comparison in compared.items() if comparison is not None},
        'residual_per_pattern': report.residual_per_pattern,
    }


def format_result(metrics: Mapping[str, Any], verdict: Verdict | None, files: Mapping[str, Any]) -> list[str]:
    """The summary of a reconstruction, its verdict last but for the files."""
    stages = metrics['stages']
    speed = ', '.join(f'{name} {stage["patterns_per_second"]:.0f}' for name, stage in stages.items())
    head = {
        'patterns': metrics['patterns'],
        **summarize_reliability(metrics['reliability']),
        'patterns per second': speed,
        'CPU time': f'{metrics["cpu_seconds"]:.1f} s',
        'peak memory': f'{metrics["peak_memory_mib"]:.0f} MiB',
    }
    lines = format_pairs(head)
    for key, title in (('image_network', 'network alone against the truth'), ('image', 'against the truth')):
        if key in metrics:
            lines += [f'{title}:', *(f'  {line}' for line in format_image_metrics(metrics[key]))]
    return [*lines, *format_notes(metrics['notes']), *format_verdict(verdict), *format_pairs(files)]


def format_verdict(verdict: Verdict | None) -> list[str]:
    """How far the result fits, and a line for each reason why that is not well."""
    if verdict is None:
        return []
    head = f'verdict: fits to {verdict.ratio:.3g} times counting noise: {verdict.word}'
    advice = [] if verdict.word == 'good' else ['ptychopinn diagnose SCAN looks for the cause.']
    return [head, *format_reasons(verdict.reasons), *advice]


def summarize_reliability(reliability: Mapping[str, Any]) -> dict[str, Any]:
    """How far a result can be trusted: residual, R-factor, uncertainty and resolution, as far as they are known."""
    split, refined = reliability.get('split_frc'), reliability.get('uncertainty_of') == 'result'
    return {
        'residual': reliability['residual'],
        'R-factor': reliability.get('r_factor'),
        '90 % error bars, median' if refined else 'uncertainty, median': reliability.get('uncertainty_median'),
        'half-data FRC': describe_half_data(split['resolution']) if split else None,
    }


def format_image_metrics(metrics: Mapping[str, float]) -> list[str]:
    """The leading image metrics with their units."""
    parts = {key: label.partition(', ') for key, label in LEADING.items()}
    return format_pairs({name: f'{metrics[key]:.4g} {unit}'.rstrip() for key, (name, _, unit) in parts.items()})
