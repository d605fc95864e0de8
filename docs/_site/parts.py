"""What the site has beyond Sphinx: its table of contents, the commands, formulas without a script from elsewhere."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ptychopinn_reconstructor.cli.main import COMMANDS, HELP
from ptychopinn_reconstructor.cli.options import SEPARATOR

ENTRY = re.compile(r'^- \[[^]]*\]\(([^)#:\s]+)\.md\)', re.MULTILINE)


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make the list of an index page the table of contents below it, so that no page is listed twice."""
    if docname.rpartition('/')[2] == 'index' and (pages := ENTRY.findall(source[0])):
        source[0] += '\n\n```{toctree}\n:hidden:\n\n' + '\n'.join(pages) + '\n```\n'


class Commands(SphinxDirective):
    """A section for each command: how it is called, what it does, its options, as its own parser has them."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        text = '\n'.join(line for name in HELP for line in describe_command(name))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Notebook(SphinxDirective):
    """The cells of a notebook, which is named by its path from the page; its headings one level down."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Its texts and its code."""
        path = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(path.resolve()))
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        text = '\n\n'.join(show_cell(cell['cell_type'], ''.join(cell['source'])) for cell in cells)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def show_cell(kind: str, source: str) -> str:
    """Markdown of a cell."""
    return f'```python\n{source}\n```' if kind == 'code' else re.sub(r'^#', '##', source, flags=re.MULTILINE)


def describe_command(name: str) -> Iterator[str]:
    """Markdown on a command."""
    command = COMMANDS[name].load()
    context = click.Context(command, info_name=f'ptychopinn {name}')
    usage = ' '.join(command.get_usage(context).split()).removeprefix('Usage: ')
    yield from (f'## {name}', '', '```text', usage, '```', '')
    yield from inspect.cleandoc(command.help or '').splitlines()
    yield ''
    settings: dict[str, list[str]] = {}
    for option in command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        section, separator, _ = (option.name or '').partition(SEPARATOR)
        if separator and record:
            settings.setdefault(section, []).append(f'`{option.opts[0]}`')
        elif record and '--help' not in option.opts:
            yield f'- `{record[0]}`: {record[1]}'
    if settings:
        yield ''
        yield 'Settings ([all of them](../../specs/settings.md), with defaults and meanings):'
        yield ''
        yield from (f'- {section}: {", ".join(names)}' for section, names in settings.items())
    yield ''


def write_inline_formula(writer: Any, node: nodes.math) -> None:
    """A formula in a line, as MathML, which browsers draw by themselves."""
    writer.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_formula(writer: Any, node: nodes.math_block) -> None:
    """A formula by itself."""
    writer.body.append(latex2mathml.tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register them."""
    app.connect('source-read', add_contents)
    app.add_directive('commands', Commands)
    app.add_directive('notebook', Notebook)
    app.add_html_math_renderer('mathml', (write_inline_formula, None), (write_formula, None))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
