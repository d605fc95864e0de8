"""The output of a command: aligned text for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from ..io.plain_json import to_plain_json
from ..result import Reason
from .wording import say


def show(values: Mapping[str, Any], *, as_json: bool, text: Iterable[str]) -> None:
    """Print `values` as JSON, or the lines of `text`."""
    if as_json:
        click.echo(json.dumps(to_plain_json(values), indent=2, allow_nan=False))
    else:
        for line in text:
            click.echo(line)


def format_pairs(values: Mapping[str, Any]) -> list[str]:
    """Aligned 'key  value' lines; None and empty values are left out."""
    shown = {key: _format_value(value) for key, value in values.items() if value not in (None, '', [], ())}
    width = max((len(key) for key in shown), default=0)
    return [f'{key:<{width}}  {value}' for key, value in shown.items()]


def format_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [list(head), *([_format_value(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ['  '.join(_pad(cell, widths[i], i) for i, cell in enumerate(line)).rstrip() for line in lines]


def format_notes(sentences: Iterable[str]) -> list[str]:
    """Notes for the user, one a line."""
    return [f'note: {say(sentence)}' for sentence in sentences]


def format_reasons(reasons: Iterable[Reason]) -> list[str]:
    """Two lines for each reason of a verdict: what was found; its likely causes and what to do."""
    lines = []
    for reason in reasons:
        lines.append(f'  {reason.word}: {reason.finding}.')
        lines.append(f'    Likely: {reason.causes}. To do: {say(reason.remedy)}.')
    return lines


def _pad(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _format_value(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
