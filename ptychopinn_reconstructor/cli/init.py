"""`ptychopinn init`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import click

from ..errors import OutputError
from ..io import write_npz
from ..io.atomic import write_atomically
from ..physics.simulation.simulate import simulate
from .app import debug_option, quiet_option
from .configuration import PRESETS
from .folders import check_output_folder
from .progress import ProgressBar

EXAMPLES, FIRST_STEPS = 'ptychopinn_reconstructor.examples', 'first_steps.md'
# Small, so that the training of the preset `quick` takes seconds; the second has the same probe and another object.
SCANS: dict[str, dict[str, Any]] = {
    'scan.npz': {'positions': 256, 'object': 'cells', 'seed': 0},
    'second_scan.npz': {'positions': 256, 'object': 'leaves', 'seed': 1},
}
NOT_COPIED = ('__init__.py', '__pycache__', FIRST_STEPS)


@click.command()
@click.argument('folder', metavar='DIR', type=click.Path(path_type=Path))
@quiet_option
@debug_option
def init(folder: Path, quiet: bool) -> None:
    """Write a first scan and what it takes to reconstruct it into DIR, a new folder.

    Two small simulated scans, the presets, example scripts, and README.md: what to type, in which order, and what to
    expect.
    """
    check_output_folder(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"The folder '{folder}' is not empty; name a new one.")
    with ProgressBar('init', quiet=quiet):
        _write_scans(folder)
        _copy(resources.files(PRESETS), folder / 'presets')
        _copy(resources.files(EXAMPLES), folder / 'examples')
        _write(folder / 'README.md', resources.files(EXAMPLES) / FIRST_STEPS)
    if not quiet:
        click.echo(f'Wrote {", ".join(sorted(path.name for path in folder.iterdir()))}.')
        click.echo(f'Next: read {folder / "README.md"}; its first step trains a network on scan.npz.')


def _write_scans(folder: Path) -> None:
    for name, options in SCANS.items():
        write_npz(folder / name, simulate(**options))


def _copy(source: Traversable, folder: Path) -> None:
    for path, entry in _walk(source, folder):
        _write(path, entry)


def _walk(source: Traversable, folder: Path) -> Iterator[tuple[Path, Traversable]]:
    for entry in source.iterdir():
        if entry.name in NOT_COPIED:
            continue
        if entry.is_dir():
            yield from _walk(entry, folder / entry.name)
        else:
            yield folder / entry.name, entry


def _write(path: Path, source: Traversable) -> None:
    with write_atomically(path) as temporary:
        temporary.write_bytes(source.read_bytes())
