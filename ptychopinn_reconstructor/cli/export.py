"""`ptychopinn export`."""

from __future__ import annotations

from pathlib import Path

import click

from ..model_file.export import export_model
from .app import debug_option, json_option, quiet_option
from .folders import check_output_folder
from .report import format_pairs, show


@click.command()
@click.argument('model', metavar='MODEL', type=click.Path(path_type=Path))
@click.option('--onnx', is_flag=True, required=True, help='As an ONNX file, which is the only format so far.')
@click.option('--output', type=click.Path(path_type=Path), help='File to write [default: MODEL with the suffix .onnx].')
@json_option
@quiet_option
@debug_option
def export(model: Path, onnx: bool, output: Path | None, as_json: bool, quiet: bool) -> None:
    """Write a model as an ONNX file, which other programs run.

    The file holds the network as an ONNX graph and, in its metadata, everything else of the model file: whatever takes
    a model here takes it too. Its graph is run on the self-test before the file gets its name.
    """
    target = output or model.with_suffix('.onnx')
    check_output_folder(target.absolute().parent)
    report = export_model(model, target)
    values = {
        'path': str(target),
        'bytes': target.stat().st_size,
        'patterns': report.patterns,
        'difference': report.difference,
        'tolerance': report.tolerance,
    }
    if as_json or not quiet:
        show(values, as_json=as_json, text=format_pairs(values))
