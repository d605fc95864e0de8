"""`ptychopinn compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import ConfigError
from ..events import with_logging
from ..experiments.compare import compare as compare_backends
from ..experiments.compare_report import summarize_report
from .app import debug_option, json_option
from .arguments import config_option, margin_option, output_option, probe_option, set_option
from .configuration import read_command_line, resolve
from .folders import check_output_folder
from .logs import job_output_options
from .options import SettingsCommand, field_options
from .progress import ProgressBar
from .report import format_notes, format_pairs, show
from .stopping import catch_stop_signals

# Settings that the command gives to each of its steps, and what the user names instead.
SETTLED = {
    'backend': '--backends',
    'model_path': 'the models that are trained here',
    'output_dir': '--output-dir',
    'train_data_file': 'SCAN',
}


@click.command(cls=SettingsCommand)
@click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path))
@output_option
@click.option('--backends', metavar='NAME,NAME', help='Backends to compare [default: all that are installed].')
@config_option
@set_option
@probe_option
@click.option('--from', 'initial', metavar='MODEL', type=click.Path(path_type=Path), help='Model that each trains on.')
@click.option(
    '--truth',
    type=click.Path(path_type=Path),
    help="File with the true object [default: the scan's own object, where it has one].",
)
@margin_option
@click.option('--overwrite', is_flag=True, help='Replace the comparison that the output folder holds.')
@json_option
@job_output_options
@debug_option
@field_options('compare')
def compare(
    scan: Path,
    output_dir: Path,
    backends: str | None,
    file: str | None,
    settings: tuple[str, ...],
    probe: str | None,
    initial: Path | None,
    truth: Path | None,
    margin: int | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train and reconstruct a scan with several backends and report how far they agree.

    Each backend trains a model with the same settings, and each reconstructs the scan with every model, each time in a
    new process. The output folder gets report.md with pictures, report.json, BACKEND/model/ (a training) and
    BACKEND_in_BACKEND/ (a reconstruction of the first one's model by the second). Settings come from the command line,
    then from --config, then from the defaults. With --passes the objects are also compared after refinement.
    """
    config = _resolve_config(file, settings, options)
    check_output_folder(output_dir)
    quiet_bar = quiet or not config.execution.progress
    with catch_stop_signals() as should_stop, ProgressBar('reading', quiet=quiet_bar) as bar:
        report = compare_backends(
            scan,
            output_dir,
            config,
            backends=None if backends is None else [name for name in backends.split(',') if name.strip()],
            probe=probe,
            truth=truth,
            margin=margin,
            initial=initial,
            overwrite=overwrite,
            emit=with_logging(bar.emit),
            should_stop=should_stop,
        )
    if as_json or not quiet:
        files = format_pairs({name: str(output_dir / name) for name in ('report.md', 'report.json')})
        show(report, as_json=as_json, text=[*summarize_report(report), *format_notes(report['notes']), *files])


def _resolve_config(file: str | None, settings: tuple[str, ...], options: dict[str, Any]) -> Config:
    for fields in read_command_line(settings, options).values():
        if name := next((name for name in fields if name in SETTLED), None):
            raise ConfigError(f'{name} is not a setting of a comparison, which has {SETTLED[name]}; leave {name} out.')
    return resolve(Config(), file, settings, options)
