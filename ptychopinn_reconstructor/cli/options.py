"""Command-line options made from the fields of the configuration."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click

from ..config import AUTO, SECTIONS, FieldInfo, field_table
from .app import Decorator, decorate_with
from .arguments import config_option, set_option
from .wording import OWN_ARGUMENTS, name_option

TRAIN_SECTIONS = ('model', 'data', 'training', 'execution')
ON_A_SCAN = (
    'data.measurement_domain', 'data.as_is', 'data.probe_power', 'data.nphotons', 'execution.backend',
    'execution.device', 'execution.scratch_dir',
)  # fmt: skip
RECONSTRUCT_FIELDS = ON_A_SCAN
REFINE_FIELDS = (*ON_A_SCAN, 'training.seed', 'inference.split_frc')
SETTLED_BY_PRETRAINING = ('model_type', 'source')
SEPARATOR = '__'


def list_commands(row: FieldInfo) -> tuple[str, ...]:
    """The commands that take a setting as an option."""
    if row.name in OWN_ARGUMENTS:
        return ()
    train: tuple[str, ...] = ('train',) if row.section in TRAIN_SECTIONS else ()
    if train and row.has_effect('supervised', 'procedural') and row.name not in SETTLED_BY_PRETRAINING:
        train = (*train, 'pretrain')
    key = f'{row.section}.{row.name}'
    inferred = row.section in ('inference', 'refinement') or key in RECONSTRUCT_FIELDS
    refined = row.section == 'refinement' or key in REFINE_FIELDS
    taken = (*train, *(('reconstruct',) if inferred else ()), *(('refine',) if refined else ()))
    return taken if row.name == 'backend' else (*taken, 'compare')  # compare takes --backends


def field_options(command: str) -> Decorator:
    """All options of a command (train, pretrain, reconstruct, refine, compare) that are settings, as section__field."""
    return decorate_with(*(_make_option(row) for row in field_table() if command in list_commands(row)))


class SettingsCommand(click.Command):
    """A command whose --help lists its own options first, then the settings by their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            section, separator, _ = (parameter.name or '').partition(SEPARATOR)
            title = f'Settings: {section}' if separator else 'Options'
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--config, --set and --print-config."""
    return decorate_with(
        config_option,
        set_option,
        click.option('--print-config', is_flag=True, help='Print the complete configuration as YAML and stop.'),
    )(function)


def select_given(options: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Section, field and value of those options that were given."""
    for key, value in options.items():
        section, separator, name = key.partition(SEPARATOR)
        if separator and value is not None:
            yield section, name, value


def _make_option(row: FieldInfo) -> Decorator:
    name, kind = name_option(row), _unwrap_type(SECTIONS[row.section].model_fields[row.name].annotation)
    default = 'on' if row.default is True else 'off' if row.default is False else row.default
    text = f'{row.description} [default: {AUTO if row.auto else default}]'
    text = row.description if row.default is None and not row.auto else text
    key = f'{row.section}{SEPARATOR}{row.name}'
    if kind is bool:
        return click.option(f'{name}/--no-{name[2:]}', key, default=None, help=text)
    if row.auto:  # the configuration reads the number
        return click.option(name, key, metavar=f'NUMBER|{AUTO}', help=text)
    return click.option(name, key, type=_choose_click_type(kind), default=None, help=text)


def _unwrap_type(annotation: Any) -> Any:
    """The type of one value: without None, and of several the last (str in Literal[...] | str)."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for part in get_args(annotation) if part is not type(None)][-1]
    return annotation


def _choose_click_type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice([str(value) for value in get_args(kind)])
    return click.Path(path_type=Path) if kind is Path else kind
