"""`ptychopinn doctor`."""

from __future__ import annotations

import logging
from typing import Any

import click

from ..environment import examine
from ..events import LOGGER
from .app import debug_option, json_option
from .progress import ProgressBar
from .report import format_pairs, show


@click.command()
@click.option('--quick', is_flag=True, help='Import no framework: devices are not listed.')
@json_option
@debug_option
def doctor(quick: bool, as_json: bool) -> None:
    """Show versions, backends with their devices, and whether Ptychodus is there: what a bug report needs."""
    with ProgressBar('doctor'):
        values = examine(quick=quick, tell=logging.getLogger(LOGGER).info)
    show(values, as_json=as_json, text=_format_examination(values))


def _format_examination(values: dict[str, Any]) -> list[str]:
    lines = format_pairs({key: values[key] for key in ('ptychopinn_reconstructor', 'python', 'platform', 'cpus')})
    lines += ['packages:', *(f'  {line}' for line in format_pairs(values['packages']))]
    lines.append('backends:')
    for name, backend in values['backends'].items():
        state = 'ready' if backend['installed'] else f'not usable: {backend["reason"]}'
        devices = f', devices: {", ".join(backend["devices"])}' if backend['devices'] else ''
        lines.append(f'  {name}: {state}{devices}')
    host = values['ptychodus']
    return [*lines, f'Ptychodus: {host["version"] if host["found"] else "not found"}']
