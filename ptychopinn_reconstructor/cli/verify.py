"""`ptychopinn verify`."""

from __future__ import annotations

from pathlib import Path

import click

from ..model_file.export import ONNX, replay_export
from ..model_file.exported import is_export
from ..model_file.trained import verify_model
from .app import debug_option, json_option
from .progress import ProgressBar
from .report import format_pairs, show


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
        # The graph of an export is run as it stands, unless another backend is asked to build the network anew.
        backend = backend or (ONNX if is_export(model) else None)
        report = replay_export(model) if backend == ONNX and is_export(model) else verify_model(model, backend)
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
    show(values, as_json=as_json, text=format_pairs(values))
