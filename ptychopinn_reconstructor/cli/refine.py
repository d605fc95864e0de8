"""`ptychopinn refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import ConfigError
from ..reconstruction.finish import Result
from ..reconstruction.reconstruct import refine_scan
from .configuration import dump_yaml, read_command_line, read_file
from .options import field_options, settings_options
from .progress import ProgressBar
from .result_job import ResultJob, print_each, refuse_settings, result_options, run_each
from .stopping import catch_stop_signals


@click.command()
@click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path))
@click.option(
    '--initial', metavar='PRODUCT', type=click.Path(path_type=Path),
    help='Result to go on from: its object, and its probe unless --probe is given [default: an empty object].',
)  # fmt: skip
@settings_options
@result_options
@field_options('refine')
def refine(
    scan: Path,
    initial: Path | None,
    file: str | None,
    settings: tuple[str, ...],
    print_config: bool,
    output_dir: Path,
    probe: str | None,
    truth: Path | None,
    margin: int | None,
    pixel_size: float | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Reconstruct a scan with the classical iterative engine alone, from an empty object or an earlier result.

    Writes the same files as reconstruct, and with --refine-probe also probe.npz. No model is needed, and on the CPU no
    framework; --device auto is a GPU where the backend is installed and there is one.
    """
    from_line = read_command_line(settings, options)
    refuse_settings('refine', from_line, 'is no setting of the engine alone')
    config = Config().merged(read_file(file) if file is not None else {}, from_line)
    if config.refinement.passes == 0:
        raise ConfigError('passes is 0, which leaves the object empty; set --passes to 1 or more, or to auto.')
    if print_config:
        click.echo(dump_yaml(config), nl=False)
        return
    job = ResultJob(output_dir, truth, margin, pixel_size, as_json, quiet or not config.execution.progress)
    with catch_stop_signals() as should_stop, ProgressBar('reading', quiet=job.quiet) as bar:

        def work(one: ResultJob) -> Result:
            given = one.scan.probe if probe is not None else None
            result = refine_scan(one.scan, config, probe=given, initial=initial, emit=bar.emit, should_stop=should_stop)
            one.finish(result)
            if config.refinement.probe:
                one.keep_probe(result)
            return result

        done = run_each(job, scan, config, probe, work)
    print_each(job, done, strict=strict)
