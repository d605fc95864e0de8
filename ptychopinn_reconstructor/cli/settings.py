"""All settings as documents: specs/settings.md and the commented preset configs/default.yaml.

Run `python -m ptychopinn_reconstructor.cli.settings table > specs/settings.md`, and the same with `preset` for
configs/default.yaml, after a field has changed; tests/cli/test_commands.py compares both with the fields.
"""

from __future__ import annotations

import textwrap

import click

from ..config import AUTO, FORMAT_VERSION, SECTIONS, FieldInfo, field_table
from ..config.fields import SOURCES
from .wording import name_option

INTRODUCTION = """# Settings

Generated from the fields of `ptychopinn_reconstructor/config/` by `ptychopinn_reconstructor/cli/settings.py`.
Precedence: command line over file (`--config`) over default. `--set KEY=VALUE` takes every setting by its YAML key,
with or without its section.

In Ptychodus the keys of `[PtychoPINNModel]`, `[PtychoPINNTraining]` and `[PtychoPINNInference]` are its own, with
its defaults; the others are in the section `[PtychoPINNPlugin]`, where `auto` is written so. In the others 0 means it,
as 0 means "none" where `null` is the default here; an empty text or `.` means "none" too. The host decides N (from the
patterns), the model type (from the algorithm) and the files. `ProbeScale = 4` and `NumPhotons = 1000000`, which the
host sets by itself, stand for our defaults, and `LearningRate = 0.002`, which is in every file that it has saved, for
0.0005 in a training that starts from a model; its `ProbeBig` has no effect, since it is true in every file that the
host has saved, and ours stands in our section. Four settings exist only there: `Resume` (Train goes on with the
training in its folder), `StartFromModel` (Train starts from the model of `ModelPath`: fine-tuning), `StartFromObject`
(Infer refines the object of the selected product, without a model) and `FurtherModels`
(files that infer beside `ModelPath`, separated by `:`, on Windows by `;`: their mean, and what they differ as the
uncertainty). `ScratchDir` is also where scans are handed over to the worker process.
"""
HEAD = '| YAML key | INI Section.Key | command line | default | applies to | meaning |'


def render_table() -> str:
    """The table of all settings."""
    parts = [INTRODUCTION]
    for section, model in SECTIONS.items():
        rows = [row for row in field_table() if row.section == section]
        parts += [f'\n## {section}\n\n{model.__doc__}\n\n{HEAD}\n|{"---|" * 6}\n', *map(_format_row, rows)]
    return ''.join(parts)


def render_preset() -> str:
    """A configuration file in which every setting has its default and a comment."""
    lines = ['# Every setting with its default. Copy what you change; what is left out keeps its default.']
    lines.append(f'format_version: {FORMAT_VERSION}')
    for section, model in SECTIONS.items():
        lines += ['', f'# {model.__doc__}', f'{section}:']
        for row in field_table():
            if row.section == section:
                comment = textwrap.wrap(row.description, 112)
                lines += [*(f'  # {line}' for line in comment), f'  {row.name}: {_format_default(row)}']
    return '\n'.join(lines) + '\n'


def _format_row(row: FieldInfo) -> str:
    option, default = _format_option(row), _format_default(row)
    cells = (f'`{row.section}.{row.name}`', f'`{row.ini}`', option, f'`{default}`', _format_reach(row))
    text = row.description.replace('|', '\\|')
    return f'| {" | ".join(cells)} | {text} |\n'


def _format_reach(row: FieldInfo) -> str:
    """The model types for which a setting has an effect, and the sources where it has none for some."""
    kinds = {'both': 'pinn, supervised', 'pinn': 'pinn', 'supervised': 'supervised, simulated patterns'}[row.applies]
    return kinds if row.sources == SOURCES else f'{kinds}; source {", ".join(row.sources)}'


def _format_option(row: FieldInfo) -> str:
    name = name_option(row)
    return f'`{name}`' if name.startswith('--') else f'({name})'


def _format_default(row: FieldInfo) -> str:
    """The default as YAML writes it."""
    import yaml

    value = AUTO if row.auto else row.default
    return str(yaml.safe_dump(value)).removesuffix('...\n').strip()


@click.command()
@click.argument('document', type=click.Choice(['table', 'preset']))
def main(document: str) -> None:
    """Print one of the documents."""
    click.echo(render_table() if document == 'table' else render_preset(), nl=False)


if __name__ == '__main__':
    main()
