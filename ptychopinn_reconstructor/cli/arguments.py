"""Options that several commands share, so that they are called and explained alike."""

from __future__ import annotations

from pathlib import Path

import click

from .app import Decorator

output_option: Decorator = click.option(
    '--output-dir', required=True, type=click.Path(path_type=Path), help='Folder for all that is written.'
)
config_option: Decorator = click.option(
    '--config', 'file', metavar='FILE', help='YAML file with settings, or the name of a shipped preset.'
)
set_option: Decorator = click.option(
    '--set', 'settings', multiple=True, metavar='KEY=VALUE', help='Any setting by its name; may be repeated.'
)
probe_option: Decorator = click.option('--probe', metavar='FILE[:KEY]', help="Probe in place of the scan's own.")
margin_option: Decorator = click.option(
    '--margin',
    type=click.IntRange(0),
    metavar='PIXELS',
    help='Left out of the comparison inside the outermost patch centers [default: N/16, or 4 where N is unknown].',
)
