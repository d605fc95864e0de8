"""The table of all settings, and a setting by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError, quote
from .fields import PLUGIN_SECTION, Applies, no_effect
from .whole import SECTIONS


class FieldInfo(NamedTuple):
    """One row of the table of all settings: YAML section and key, INI Section.Key, option, model types, meaning.

    `auto`: the default None means automatic, for which people write auto.
    """

    section: str
    name: str
    default: Any
    ini: str
    option: str
    applies: Applies
    sources: tuple[str, ...]
    auto: bool
    description: str

    def has_effect(self, model_type: str, source: str) -> bool:
        """Whether it means anything for a model type and a source of patterns."""
        return not no_effect(self.applies, self.sources, model_type, source)


def field_table() -> Iterator[FieldInfo]:
    """Every setting in the order of the sections."""
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            extra: Any = field.json_schema_extra
            reach = extra['applies'], extra['sources'], extra['auto']
            camel = ''.join(part[:1].upper() + part[1:] for part in name.split('_'))
            ini = extra['ini'] or f'{PLUGIN_SECTION}.{camel}'
            option = extra['option'] or '--' + name.replace('_', '-').lower()
            yield FieldInfo(section, name, field.default, ini, option, *reach, str(field.description))


def applicable(values: Mapping[str, Mapping[str, Any]], model_type: str, source: str) -> dict[str, dict[str, Any]]:
    """Settings (section -> field -> value) without those that have no effect for a model type and a source."""
    void = {(row.section, row.name) for row in field_table() if not row.has_effect(model_type, source)}
    return {
        section: {name: value for name, value in fields.items() if (section, name) not in void}
        for section, fields in values.items()
    }


def section_of(key: str) -> tuple[str, str]:
    """Section and field of 'section.field' or of a field's name alone; ConfigError names the nearest ones."""
    rows = list(field_table())
    for row in rows:
        if key in (row.name, f'{row.section}.{row.name}'):
            return row.section, row.name
    import difflib

    near = difflib.get_close_matches(key.rpartition('.')[2], [row.name for row in rows], n=3)
    hint = f'did you mean {", ".join(near)}' if near else 'see ptychopinn train --help for the names'
    raise ConfigError(f'There is no setting {quote(key)}; {hint}.')
