"""A report of an experiment as one list of parts, written as Markdown beside its pictures or as a page of HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1150px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: 2px 9px; text-align: right; }
th { border-bottom: 1px solid #999; } tr:nth-child(even) td { background: #f4f4f4; }
td:first-child, th:first-child { text-align: left; } img { max-width: 100%; } .note { color: #666; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading below the title."""

    text: str

    def to_markdown(self) -> str:
        """As Markdown."""
        return f'## {self.text}'

    def to_html(self) -> str:
        """As HTML."""
        return f'<h2>{html.escape(self.text)}</h2>'


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def to_markdown(self) -> str:
        """As Markdown."""
        return self.text

    def to_html(self) -> str:
        """As HTML."""
        return f'<p class="note">{html.escape(self.text)}</p>'


@dataclass(frozen=True)
class Items:
    """A list; 'None.' where it is empty."""

    texts: Sequence[str]

    def to_markdown(self) -> str:
        """As Markdown."""
        return '\n'.join(f'- {text}' for text in self.texts) or 'None.'

    def to_html(self) -> str:
        """As HTML."""
        return '<ul>' + ''.join(f'<li>{html.escape(text)}</li>' for text in self.texts or ['None.']) + '</ul>'


@dataclass(frozen=True)
class Table:
    """Columns under a head; a number has four digits, None is a dash."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_markdown(self) -> str:
        """As Markdown."""
        rows = ([format_cell(cell).replace('|', '\\|') for cell in row] for row in self.rows)
        return '\n'.join(f'| {" | ".join(line)} |' for line in (self.head, ['---'] * len(self.head), *rows))

    def to_html(self) -> str:
        """As HTML."""
        lines = [_format_row('th', self.head), *(_format_row('td', map(format_cell, row)) for row in self.rows)]
        return '\n'.join(['<table>', *lines, '</table>'])


def format_cell(value: Any) -> str:
    """Text of a table's cell: numbers with four digits, None as a dash."""
    if value is None:
        return '–'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _format_row(tag: str, cells: Iterable[str]) -> str:
    return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'


@dataclass(frozen=True)
class Picture:
    """A picture by its address relative to the report, or held in it (`embed`)."""

    address: str
    caption: str

    @classmethod
    def embed(cls, data: bytes, kind: str, caption: str) -> Picture:
        """Picture held in the page itself; `kind` of `data` is png or svg."""
        media = 'svg+xml' if kind == 'svg' else kind
        return cls(f'data:image/{media};base64,{base64.b64encode(data).decode()}', caption)

    def to_markdown(self) -> str:
        """As Markdown, the caption below it."""
        return f'![{self.caption}]({self.address})\n\n{self.caption}.'

    def to_html(self) -> str:
        """As HTML."""
        return f'<p><img alt="{html.escape(self.caption)}" src="{self.address}"></p>'


Part = Heading | Text | Items | Table | Picture


def format_markdown(title: str, parts: Sequence[Part]) -> str:
    """Markdown text of a report."""
    return '\n\n'.join([f'# {title}', *(part.to_markdown() for part in parts)]) + '\n'


def format_html(title: str, parts: Sequence[Part]) -> str:
    """HTML page of a report."""
    title = html.escape(title)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    body = '\n'.join([f'<h1>{title}</h1>', *(part.to_html() for part in parts)])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
