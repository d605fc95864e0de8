"""`ptychopinn inspect`, `ptychopinn verify` and `ptychopinn doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .app import debug_option, json_option
from .progress import ProgressBar
from .report import pairs, show


@click.command()
@click.argument('model', metavar='MODEL', type=click.Path(path_type=Path))
@json_option
@debug_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what a model file (model.zip) holds, after checking all of it; no framework is needed."""
    from ..model_file.bundle import inspect_bundle

    values = inspect_bundle(model)
    show(values, as_json=as_json, text=_inspection(values))


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
        from ..model_file.bundle import open_bundle

        written_by = str(open_bundle(model).manifest['backend'])
        from ..model_file.models import verify as verify_model

        report = verify_model(model, backend)
    values = {
        'path': str(report.path),
        'backend': backend or written_by,
        'written_by': written_by,
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


def _inspection(values: dict[str, Any]) -> list[str]:
    manifest = values['manifest']
    config, training = manifest['config'], manifest['training']
    head = {
        'file': f'{values["path"]} ({values["size"] / 1e6:.2f} MB)',
        'format': f'{manifest["format"]} {manifest["format_version"]}',
        'created': manifest['created'],
        'backend': manifest['backend'],
        'model type': config.get('model', {}).get('model_type'),
        'architecture': f'{manifest["architecture"].get("name")}, {values["parameters"]:,} parameters',
        'N': f'{config.get("model", {}).get("N")} pixels',
        'probe power': manifest['scaling'].get('probe_power'),
        'mean counts': manifest['scaling'].get('mean_counts'),
        'trained': f'{training.get("epochs")} epochs, {training.get("patterns_seen")} patterns seen',
        'trained on': ', '.join(map(str, training.get('scans') or [])),
        'versions': ', '.join(f'{name} {version}' for name, version in manifest['versions'].items()),
        'self-test': f'tolerance {manifest["selftest"]["tolerance"]:g}',
    }
    members = [f'  {m["name"]}  {m["size"]} bytes  sha256 {m["sha256"][:12]}... matches' for m in values['members']]
    return [*pairs(head), 'members:', *members]


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
