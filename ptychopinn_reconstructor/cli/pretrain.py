"""`ptychopinn pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import ConfigError
from ..events import Emit, ShouldStop
from ..io import read_probe
from ..training.instrument import Instrument, read_instrument
from ..training.pretraining import pretrain as pretrain_for
from ..training.run import TrainingResult
from .options import SettingsCommand, field_options
from .training_job import begin_training, read_with_probe, run_job, training_options


@click.command(cls=SettingsCommand)
@click.argument('scan', required=False, metavar='[SCAN]', type=click.Path(path_type=Path))
@click.option('--probe', metavar='FILE[:KEY]', help="The instrument's probe [default: that of SCAN].")
@click.option(
    '--photons',
    type=click.FloatRange(0, min_open=True),
    metavar='NUMBER',
    help="Photons incident per pattern [default: as SCAN has them, or the probe's own power].",
)
@training_options
@field_options('pretrain')
def pretrain(
    scan: Path | None,
    probe: str | None,
    photons: float | None,
    output_dir: Path | None,
    file: str | None,
    settings: tuple[str, ...],
    initial: Path | None,
    resume: bool,
    overwrite: bool,
    print_config: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Pretrain a network for an instrument, so that a new sample needs no training.

    The network learns from objects of many kinds, drawn on the fly, under the instrument's own probe and with its
    counting statistics. SCAN, if given, is any scan of the instrument: its counts, its bad pixels and, without --probe,
    its probe are used, its object and positions are not. Without SCAN the probe's own power says how many photons there
    are, or --photons. The output folder gets what a training writes, and probe.npz.
    """
    begun = begin_training(
        output_dir,
        file,
        settings,
        options,
        initial=initial,
        resume=resume,
        overwrite=overwrite,
        print_config=print_config,
        settled={'data': {'source': 'procedural'}},
    )
    if begun is None:
        return
    config, folder = begun
    if resume and config.data.source != 'procedural':
        raise ConfigError(f'{folder} holds no pretraining to resume; go on with ptychopinn train --resume.')
    notes: list[str] = []

    def work(emit: Emit, should_stop: ShouldStop) -> TrainingResult:
        instrument = _build_instrument(scan, probe, photons, folder if resume else None, config, notes)
        return pretrain_for(
            instrument, config, folder, initial=initial, resume=resume, emit=emit, should_stop=should_stop
        )

    command = ' '.join(['ptychopinn pretrain', *([str(scan)] if scan else []), f'--output-dir {folder}'])
    run_job(work, config, folder, command, notes, resume=resume, quiet=quiet, as_json=as_json)


def _build_instrument(
    scan: Path | None, probe: str | None, photons: float | None, resumed: Path | None, config: Config, notes: list[str]
) -> Instrument:
    """The instrument that the options describe; a resumed pretraining knows its own."""
    if resumed is not None:
        return read_instrument(resumed)
    if scan is not None:
        measured = read_with_probe(scan, config, probe, notes)[0]  # one tells the instrument of all in a file
        return Instrument.of_scan(measured, config.data.probe_power, photons)
    if probe is None:
        raise ConfigError('Neither a scan nor a probe is named; pass SCAN or --probe FILE[:KEY].')
    return Instrument.of_probe(read_probe(probe), photons)
