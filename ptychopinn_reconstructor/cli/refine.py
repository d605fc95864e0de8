"""`ptychopinn refine`."""

from __future__ import annotations

from pathlib import Path

import click

from ..config import Config
from ..errors import ConfigError
from ..events import Emit, ShouldStop
from ..reconstruction.finish import Result
from ..reconstruction.reconstruct import refine_scan
from .configuration import dump_yaml, read_command_line, read_file
from .options import SettingsCommand
from .result_job import ResultArguments, ResultJob, refuse_settings, result_command, run_each


@click.command(cls=SettingsCommand)
@click.option(
    '--initial', metavar='PRODUCT', type=click.Path(path_type=Path),
    help='Result to go on from: its object, and its probe unless --probe is given [default: an empty object].',
)  # fmt: skip
@result_command('refine')
def refine(given: ResultArguments, initial: Path | None) -> None:
    """Reconstruct a scan with the classical iterative engine alone, from an empty object or an earlier result.

    Writes the same files as reconstruct, and with --refine-probe also probe.npz. No model is needed, and on the CPU no
    framework; --device auto is a GPU where the backend is installed and there is one.
    """
    from_line = read_command_line(given.settings, given.options)
    refuse_settings('refine', from_line, 'is no setting of the engine alone')
    config = Config().merged(read_file(given.file) if given.file is not None else {}, from_line)
    if config.refinement.passes == 0:
        raise ConfigError('passes is 0, which leaves the object empty; set --passes to 1 or more, or to auto.')
    if given.print_config:
        click.echo(dump_yaml(config), nl=False)
        return

    def work(one: ResultJob, emit: Emit, should_stop: ShouldStop) -> Result:
        probe = None if given.probe is None else one.scan.probe
        return refine_scan(
            one.scan,
            config,
            probe=probe,
            initial=initial,
            processes=one.processes,
            emit=emit,
            should_stop=should_stop,
        )

    run_each(given, config, work)
