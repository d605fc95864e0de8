"""The command line `ptychopinn` and the table of its commands."""

from __future__ import annotations

import click

from .. import __version__
from .app import App, CommandEntry, debug_option
from .stopping import watch_parent

# Each command is the function of its own name in the module of its own name.
HELP = {
    'init': 'Write a first scan and what it takes to reconstruct it into DIR, a new folder.',
    'simulate': 'Simulate a scan with counting noise: patterns, positions, and the true object and probe.',
    'convert': 'Convert a scan to NPZ or CXI, or an object to TIFF or CXI.',
    'pretrain': 'Pretrain a network for an instrument, so that a new sample needs no training.',
    'train': 'Train a network on one or more scans and write the model to the output folder.',
    'reconstruct': 'Reconstruct a scan with a trained model, or several.',
    'watch': 'Reconstruct the scans of a folder, and those that arrive there.',
    'live': 'Show the object of a scan while it is taken, from a growing file, a folder, a stream or PV Access.',
    'replay': 'Send a scan at a chosen rate as a detector would, to try live.',
    'refine': 'Reconstruct a scan with the classical iterative engine alone, from nothing or from a result.',
    'diagnose': 'Find out what is wrong with a scan, the first cause first, and what to do about it.',
    'evaluate': 'Compare reconstructed objects with the true one, or with another result in its place.',
    'show': 'Show results side by side in the browser: zoom, differences, profiles, Fourier ring correlation.',
    'compare': 'Train and reconstruct a scan with several backends and report how far they agree.',
    'study': 'Run a grid of simulated scans and show how the results depend on what is varied.',
    'batch': 'Run many commands, here or on a cluster, each once: an ensemble, several instruments, many scans.',
    'inspect': 'Show what a model file (model.safetensors) holds, after checking all of it.',
    'verify': 'Replay the self-test of a model file: the network must give the recorded output again.',
    'export': 'Write a model as an ONNX file, which other programs run.',
    'doctor': 'Show versions, backends with their devices, and whether Ptychodus is there.',
    'demo': 'Simulate two scans, train on the first, reconstruct both and compare with the truth.',
}
COMMANDS = {name: CommandEntry(f'{__package__}.{name}:{name}', text) for name, text in HELP.items()}


@click.group(
    cls=App,
    entries=COMMANDS,
    invoke_without_command=True,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 110},
)
@click.version_option(__version__, prog_name='ptychopinn')
@click.option('--end-with-parent', is_flag=True, hidden=True, help='End at the end of stdin.')
@debug_option
@click.pass_context
def main(ctx: click.Context, end_with_parent: bool) -> None:
    """Physics-informed neural reconstruction of ptychographic scans.

    Train a network on the diffraction patterns of a scan, then reconstruct that scan or others taken with the same
    probe; refine and evaluate the result. Lengths are in object pixels unless a help text says otherwise.
    """
    if end_with_parent:
        watch_parent()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
