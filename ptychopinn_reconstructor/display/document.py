"""A list of parts as Markdown beside its pictures, as a page that needs no other file, or as a notebook shows it."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from jinja2 import Environment

Tone = Literal['good', 'doubtful', 'bad', '']
FRAGMENT_SIDE = 240  # pixels of a picture in a notebook


@dataclass(frozen=True)
class Heading:
    """A heading below the title."""

    kind: ClassVar[str] = 'heading'
    text: str

    def to_markdown(self) -> str:
        """As Markdown."""
        return f'## {self.text}'


@dataclass(frozen=True)
class Text:
    """A paragraph; with a `tone` it is a verdict and stands out."""

    kind: ClassVar[str] = 'text'
    text: str
    tone: Tone = ''

    def to_markdown(self) -> str:
        """As Markdown."""
        return self.text


@dataclass(frozen=True)
class Code:
    """A command, to be copied."""

    kind: ClassVar[str] = 'code'
    text: str

    def to_markdown(self) -> str:
        """As Markdown."""
        return f'```\n{self.text}\n```'


@dataclass(frozen=True)
class Items:
    """A list; 'None.' where it is empty."""

    kind: ClassVar[str] = 'items'
    texts: Sequence[str]

    def to_markdown(self) -> str:
        """As Markdown."""
        return '\n'.join(f'- {text}' for text in self.texts) or 'None.'


@dataclass(frozen=True)
class Table:
    """Columns under a head; a number has four digits, None is a dash."""

    kind: ClassVar[str] = 'table'
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_markdown(self) -> str:
        """As Markdown."""
        rows = ([format_cell(cell).replace('|', '\\|') for cell in row] for row in self.rows)
        return '\n'.join(f'| {" | ".join(line)} |' for line in (self.head, ['---'] * len(self.head), *rows))


@dataclass(frozen=True)
class Picture:
    """A picture by its address relative to the report, or held in it (`embed`)."""

    kind: ClassVar[str] = 'picture'
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


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side as far as the page is wide."""

    kind: ClassVar[str] = 'gallery'
    pictures: Sequence[Picture]

    def to_markdown(self) -> str:
        """As Markdown, below each other."""
        return '\n\n'.join(picture.to_markdown() for picture in self.pictures)


Part = Heading | Text | Code | Items | Table | Picture | Gallery


def format_cell(value: Any) -> str:
    """Text of a table's cell: numbers with four digits, None as a dash."""
    if value is None:
        return '–'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def format_markdown(title: str, parts: Sequence[Part]) -> str:
    """Markdown text of a report."""
    return '\n\n'.join([f'# {title}', *(part.to_markdown() for part in parts)]) + '\n'


def format_html(title: str, parts: Sequence[Part]) -> str:
    """HTML page of a report; pictures grow when they are clicked."""
    return _render('document.html', title, parts)


def format_fragment(title: str, parts: Sequence[Part]) -> str:
    """HTML of a thing in a notebook: a line, and parts below it."""
    return _render('fragment.html', title, parts)


def _render(template: str, title: str, parts: Sequence[Part]) -> str:
    text = _load_templates().get_template(template).render(title=title, parts=parts, side=FRAGMENT_SIDE) + '\n'
    return text.encode('utf-8', 'replace').decode()  # names of files need not be text


@functools.cache
def _load_templates() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    files = resources.files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda name: files.joinpath(name).read_text('utf-8')),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['cell'] = format_cell
    return environment
