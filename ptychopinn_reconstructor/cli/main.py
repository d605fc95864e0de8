"""The command line `ptychopinn`."""

from __future__ import annotations

import click

from .. import __version__
from .app import App, debug_option
from .compare import compare
from .demo import demo
from .evaluate import evaluate
from .init import init
from .models import doctor, inspect, verify
from .pretrain import pretrain
from .reconstruct import reconstruct, refine
from .scans import simulate
from .study import study
from .train import train


@click.group(
    cls=App,
    invoke_without_command=True,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 110},
)
@click.version_option(__version__, prog_name='ptychopinn')
@debug_option
@click.pass_context
def main(ctx: click.Context) -> None:
    """Physics-informed neural reconstruction of ptychographic scans.

    Train a network on the diffraction patterns of a scan, then reconstruct that scan or others taken with the same
    probe; refine and evaluate the result. Lengths are in object pixels unless a help text says otherwise.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


COMMANDS = (
    init, simulate, pretrain, train, reconstruct, refine, evaluate, compare, study, inspect, verify, doctor, demo,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
