"""`ptychopinn train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import ConfigError, ScanError
from ..events import Emit, ShouldStop
from ..training.run import TrainingResult
from ..training.train import train as train_scans
from .options import SettingsCommand, field_options
from .training_job import begin_training, read_with_probe, run_job, training_options


@click.command(cls=SettingsCommand)
@click.argument('scans', nargs=-1, metavar='SCAN...', type=click.Path(path_type=Path))
@click.option('--validation', type=click.Path(path_type=Path), help='Scan to validate on, in place of a held-out part.')
@click.option('--probe', metavar='FILE[:KEY]', help="Probe in place of the scans' own.")
@training_options
@field_options('train')
def train(
    scans: tuple[Path, ...],
    output_dir: Path | None,
    file: str | None,
    settings: tuple[str, ...],
    validation: Path | None,
    probe: str | None,
    initial: Path | None,
    resume: bool,
    overwrite: bool,
    print_config: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a network on one or more scans and write the model to the output folder.

    SCAN is an NPZ file, or a Ptychodus folder with diffraction.h5 and product.h5. The output folder gets
    model.safetensors, checkpoints/ with the last and the best epoch, metrics.csv (a row an epoch) and config.yaml.
    Settings come from the command line, then from --config, then from the defaults. Ctrl-C stops at the next batch;
    --resume goes on from there.
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
    )
    if begun is None:
        return
    config, folder = begun
    run_training(
        scans or _read_scan_setting(config),
        config,
        folder,
        validation=validation or config.data.test_data_file,
        probe=probe,
        initial=initial,
        resume=resume,
        quiet=quiet,
        as_json=as_json,
    )


def run_training(
    paths: Sequence[Path],
    config: Config,
    folder: Path,
    *,
    validation: Path | None = None,
    probe: str | None = None,
    initial: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> TrainingResult:
    """Train on the scans of these files; raises Interrupted, with the command that resumes it, when stopped."""
    notes: list[str] = []

    def work(emit: Emit, should_stop: ShouldStop) -> TrainingResult:
        files = [(str(path.absolute()), read_with_probe(path, config, probe, notes)) for path in paths]
        scans = [scan for _, several in files for scan in several]
        held_out = [] if validation is None else read_with_probe(validation, config, probe, notes)
        if len(held_out) > 1:
            raise ScanError(f'{validation} holds {len(held_out)} scans (scan_index); validate on a file with one.')
        return train_scans(
            scans,
            config,
            folder,
            validation=held_out[0] if held_out else None,
            initial=initial,
            resume=resume,
            sources=[source for source, several in files for _ in several],
            emit=emit,
            should_stop=should_stop,
        )

    command = f'ptychopinn train {" ".join(map(str, paths))} --output-dir {folder}'
    return run_job(work, config, folder, command, notes, resume=resume, quiet=quiet, as_json=as_json)


def _read_scan_setting(config: Config) -> tuple[Path, ...]:
    if config.data.train_data_file is None:
        raise ConfigError('No scan is named; pass one: ptychopinn train SCAN --output-dir DIR.')
    return (config.data.train_data_file,)
