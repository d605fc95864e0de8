"""`ptychopinn inspect`, `ptychopinn verify` and `ptychopinn doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .app import debug_option, json_option
from .progress import ProgressBar
from .report import pairs, show

if TYPE_CHECKING:
    from ..model_file.opening import Inspection


@click.command()
@click.argument('model', metavar='MODEL', type=click.Path(path_type=Path))
@json_option
@debug_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what a model file (model.safetensors) holds, after checking all of it; no framework is needed."""
    from ..model_file.opening import inspect_model

    inspection = inspect_model(model)
    show(inspection.to_json(), as_json=as_json, text=_lines(inspection))


@click.command()
@click.argument('model', metavar='MODEL', type=click.Path(path_type=Path))
@click.option('--backend', help='Backend to replay it with [default: the one that wrote the model].')
@json_option
@debug_option
def verify(model: Path, backend: str | None, as_json: bool) -> None:
    """Replay the self-test of a model file: the network must give the recorded output again.

    Differences are in units of the largest amplitude of the recorded output. Exit code 1 when they exceed the
    tolerance.
    """
    with ProgressBar('verify'):
        from ..model_file.trained import verify_model

        report = verify_model(model, backend)
    values = {
        'path': str(report.path),
        'backend': backend or report.written_by,
        'written_by': report.written_by,
        'patterns': report.patterns,
        'difference': report.difference,
        'tolerance': report.tolerance,
        'distance_to_fresh': report.distance_to_fresh,
        'verified': True,
    }
    show(values, as_json=as_json, text=pairs(values))


@click.command()
@click.option('--quick', is_flag=True, help='Import no framework: devices are not listed.')
@json_option
@debug_option
def doctor(quick: bool, as_json: bool) -> None:
    """Show versions, backends with their devices, and whether Ptychodus is there: what a bug report needs."""
    from ..environment import examine

    with ProgressBar('doctor'):
        values = examine(quick=quick)
    show(values, as_json=as_json, text=_examination(values))


def _lines(inspection: Inspection) -> list[str]:
    manifest = inspection.manifest
    architecture, training = manifest.architecture, manifest.training
    head = {
        'file': f'{inspection.path} ({inspection.size / 1e6:.2f} MB)',
        'format': f'{manifest.format} {manifest.format_version}',
        'created': manifest.created,
        'backend': manifest.backend,
        'model type': manifest.config.model.model_type,
        'architecture': f'{architecture.name}, {architecture.parameters:,} parameters',
        'N': f'{architecture.N} pixels',
        'probe power': manifest.scaling.probe_power,
        'mean counts': manifest.scaling.mean_counts,
        'trained': f'{training.epochs} epochs, {training.patterns_seen} patterns seen',
        'trained on': ', '.join(training.scans),
        'versions': ', '.join(f'{name} {version}' for name, version in manifest.versions.items()),
        'self-test': f'tolerance {manifest.self_test.tolerance:g}',
        'sha256': f'{manifest.sha256[:12]}... matches',
        'card': manifest.card or 'none',
    }
    return [*pairs(head), 'arrays:', *(f'  {name}  {list(shape)}' for name, shape in inspection.shapes.items())]


def _examination(values: dict[str, Any]) -> list[str]:
    lines = pairs({key: values[key] for key in ('ptychopinn_reconstructor', 'python', 'platform', 'cpus')})
    lines += ['packages:', *(f'  {line}' for line in pairs(values['packages']))]
    lines.append('backends:')
    for name, backend in values['backends'].items():
        state = 'ready' if backend['installed'] else f'not usable: {backend["reason"]}'
        devices = f', devices: {", ".join(backend["devices"])}' if backend['devices'] else ''
        lines.append(f'  {name}: {state}{devices}')
    host = values['ptychodus']
    return [*lines, f'Ptychodus: {host["version"] if host["found"] else "not found"}']
