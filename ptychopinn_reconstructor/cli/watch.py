"""`ptychopinn watch`."""

from __future__ import annotations

from pathlib import Path

import click

from .options import SettingsCommand
from .reconstruct import models_option, run_with_model
from .result_job import ResultArguments, result_command, run_folder


@click.command(cls=SettingsCommand)
@models_option
@result_command('reconstruct', 'FOLDER')
def watch(given: ResultArguments, models: tuple[Path, ...]) -> None:
    """Reconstruct the scans of a folder, and those that arrive there, until stopped (Ctrl-C).

    Each file of a scan (NPZ, HDF5, CXI, NeXus, .ptyd) that has not changed for two seconds is reconstructed as the
    command reconstruct does it, into a folder of its name; one whose result is younger is left. A file that cannot be
    reconstructed leaves the others; it is tried again when it changes.
    """
    run_with_model(given, models, run_folder)
