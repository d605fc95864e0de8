"""`ptychopinn replay`."""

from __future__ import annotations

from pathlib import Path

import click

from ..io import read_scan
from ..live.replay import replay as send_scan
from .app import debug_option
from .stopping import catch_stop_signals

ENCODINGS = {'none': '<', 'lz4': 'lz4<'}


@click.command()
@click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path))
@click.option(
    '--to',
    required=True,
    metavar='tcp://HOST:PORT|FILE.h5|FOLDER',
    help='Where receivers connect to, a file that is made and grows, or a folder that is.',
)
@click.option(
    '--rate', type=click.FloatRange(0, min_open=True), default=100.0, show_default=True, help='Patterns a second.'
)
@click.option(
    '--encoding',
    type=click.Choice(['none', 'lz4', 'bslz4']),
    default='bslz4',
    show_default=True,
    help='Of the frames of a stream.',
)
@debug_option
def replay(scan: Path, to: str, rate: float, encoding: str) -> None:
    """Send a scan at a chosen rate as a detector would, to try `live`.

    To tcp://HOST:PORT in Eiger's stream format, with messages of JSON for the positions; into a growing HDF5 file that
    can be read meanwhile (SWMR); or into a folder, a file a pattern.
    """
    read = read_scan(scan).scan
    bits = 8 * read.diffraction.dtype.itemsize
    with catch_stop_signals() as should_stop:
        sent = send_scan(read, to, rate, should_stop, encoding=ENCODINGS.get(encoding, f'bs{bits}-lz4<'))
    click.echo(f'{sent} patterns sent.')
