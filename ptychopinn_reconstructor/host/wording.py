"""Messages in the words of the panel: labels in place of settings, arguments and options."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from ..config import FieldInfo, field_table, translate
from .fields import LABELS
from .settings import ONLY_IN_PLUGIN

ARGUMENTS = {
    'probe=': 'Probe',
    'photons=': "the product's probe photon count",
    'initial=': f"'{LABELS['start_from_model']}'",
    'resume=True': f"'{LABELS['resume']}'",
}
KEY = re.compile(r'(?<!\] )\b(?:[A-Z][a-z]+){2,}\b')  # of an INI file, without its section
OPTION = re.compile(r'--([a-z][a-z-]*)(?: (auto|on|off|from_counts|\d+))?')


def say(text: str) -> str:
    """Message that names the fields of the panel; what has no field keeps its name."""
    return KEY.sub(_name_key, OPTION.sub(_name_option, translate(text, _name_setting, ARGUMENTS)))


def _name_setting(row: FieldInfo, value: str) -> str:
    if row.name not in LABELS:
        return row.name
    label = f"'{LABELS[row.name]}'"
    return label if value in ('', 'true') else f'{label} = {value}'


def _name_option(match: re.Match[str]) -> str:
    row = _rows_by_option().get(match[1])
    return match[0] if row is None else _name_setting(row, match[2] or '')


def _name_key(match: re.Match[str]) -> str:
    name = _names_by_key().get(match[0])
    return match[0] if name is None else f"'{LABELS[name]}'"


@functools.cache
def _names_by_key() -> Mapping[str, str]:
    rows = {row.ini.partition('.')[2]: row.name for row in field_table() if row.name in LABELS}
    return rows | {key: name for name, (key, _) in ONLY_IN_PLUGIN.items()}


@functools.cache
def _rows_by_option() -> Mapping[str, FieldInfo]:
    return {row.option[2:]: row for row in field_table()}
