"""`ptychopinn inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from ..model_file.opening import Inspection, inspect_model
from ..model_file.showing import hide_folders
from .app import debug_option, json_option
from .report import format_pairs, show


@click.command()
@click.argument('model', metavar='MODEL', type=click.Path(path_type=Path))
@json_option
@debug_option
def inspect(model: Path, as_json: bool) -> None:
    """Show what a model file (model.safetensors) holds, after checking all of it; no framework is needed."""
    inspection = inspect_model(model)
    show(hide_folders(inspection.to_json()), as_json=as_json, text=_format_lines(inspection))


def _format_lines(inspection: Inspection) -> list[str]:
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
        'trained on': ', '.join(hide_folders(training.scans)),
        'versions': ', '.join(f'{name} {version}' for name, version in manifest.versions.items()),
        'self-test': f'tolerance {manifest.self_test.tolerance:g}',
        'sha256': f'{manifest.sha256[:12]}... matches',
        'card': manifest.card or 'none',
    }
    return [*format_pairs(head), 'arrays:', *(f'  {name}  {list(shape)}' for name, shape in inspection.shapes.items())]
