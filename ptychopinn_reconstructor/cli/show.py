"""`ptychopinn show`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..experiments.evaluate import shorten_paths
from ..viewer.placing import place_objects
from ..viewer.series import Series
from ..viewer.server import check_viewer, serve
from .app import debug_option
from .stopping import catch_stop_signals


@click.command()
@click.argument('results', metavar='RESULT...', type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option('--port', type=click.IntRange(0, 65535), default=0, help='Of the page [default: any that is free].')
@debug_option
def show(results: tuple[Path, ...], port: int) -> None:
    """Show results side by side in the browser: zoom, differences, values along a line, Fourier ring correlation.

    RESULT is a product.h5 or its folder, an NPZ or a CXI file with an object; the first lies where its positions say,
    and the others are laid on it. One that changes meanwhile, as that of a live run does, is read again: its steps can
    be gone through. The page is served on this machine alone, until Ctrl-C.
    """
    check_viewer()
    series = dict(zip(shorten_paths([*results]), map(Series, results), strict=True))
    place_objects({name: one.steps[0] for name, one in series.items()})  # what cannot be shown is refused at once
    from ..viewer.document import fill_document

    with catch_stop_signals() as should_stop:
        serve(
            partial(fill_document, series=series),
            port,
            announce=lambda address: click.echo(f'The results are shown at {address} until Ctrl-C.'),
            should_stop=should_stop,
        )
