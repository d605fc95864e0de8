"""Settings inside Ptychodus: its own sections' keys where it has them, our own section for the rest.

Every field of `config` has an INI key. A key that the host already owns is used as it is; one that is missing is made.
Numbers that may be automatic are 0 in a widget (the refinement passes -1), and `auto` in our own section of a file; in
others that may be left open 0 means 'none', as an empty text or '.' does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ptychodus.api.parameters import (
    IntegerParameter,
    Parameter,
    ParameterGroup,
    RealParameter,
)
from ptychodus.api.settings import SettingsRegistry

from ..backend import describe_backends, find_entry_points, installed, resolve_name, resolve_title
from ..config import AUTO, PLUGIN_SECTION, SECTIONS, Config, FieldInfo, field_table, parse
from ..errors import ConfigError

# What the host decides: the size of the patterns, the algorithm, the files, the progress bar.
FROM_THE_HOST = {'N', 'model_type', 'train_data_file', 'test_data_file', 'progress', 'architecture'}
# What only the plugin has, with its key and default.
ONLY_IN_PLUGIN: dict[str, tuple[str, Any]] = {
    'resume': ('Resume', False),
    'start_from_model': ('StartFromModel', False),
    'scratch_dir': ('ScratchDir', ''),
    'further_models': ('FurtherModels', ''),
}
LARGEST = 1 << 30
LARGEST_REAL = 1e12


class PluginSettings:
    """The parameters of all settings by their names in `config`, and what only the plugin has.

    `resume`: Train goes on with the training in its folder. `start_from_model`: it starts from the model in use.
    `scratch_dir`: folder for handing scans over. `further_models`: those of an ensemble, beside the model in use.
    `defaults`: the values before any INI file is read.
    """

    def __init__(self, registry: SettingsRegistry, logger: logging.Logger) -> None:
        self._logger = logger
        self._groups: dict[str, ParameterGroup] = {}
        self._registry = registry
        self._unreadable: dict[str, str] = {}
        self.rows = {row.name: row for row in field_table() if row.name not in FROM_THE_HOST}
        self.parameters = {name: self._parameter(row) for name, row in self.rows.items()}
        own = self._group(PLUGIN_SECTION)
        for name, (key, default) in ONLY_IN_PLUGIN.items():
            create = own.create_boolean_parameter if isinstance(default, bool) else own.create_string_parameter
            self.parameters[name] = create(key, default)
        self.defaults = {name: parameter.get_value() for name, parameter in self.parameters.items()}

    def __getitem__(self, name: str) -> Parameter[Any]:
        return self.parameters[name]

    def choices(self, name: str) -> list[str]:
        """The values that a setting can have, as they are shown; empty where it is free."""
        if name == 'backend':
            return [described.title for described in describe_backends().values()]
        return [str(value) for value in _literals(self.rows[name])]

    def backend(self) -> str:
        """The entry-point name of the chosen backend; ConfigError names the choices when there is no such."""
        title = str(self['backend'].get_value())
        name = resolve_name(title)
        if name not in find_entry_points():
            raise self._unknown(self.rows['backend'], title, self.choices('backend'))
        return name

    def scratch_folder(self) -> Path | None:
        """Where scans are handed over; None: the system's folder for temporary files."""
        return _path(self['scratch_dir'].get_value())

    def model_path(self) -> Path | None:
        """The model that the settings name; None: none, or the host's example."""
        return _existing_path(self['model_path'].get_value())

    def further_models(self) -> tuple[Path, ...]:
        """Models that infer beside the one in use."""
        named = str(self['further_models'].get_value()).split(os.pathsep)
        return tuple(path for path in map(_path, named) if path is not None)

    def config(self, model_type: str) -> Config:
        """The configuration for a reconstructor; ConfigError names a bad setting by its section and key."""
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        source = str(self['source'].get_value())
        for name, row in self.rows.items():
            if row.has_effect(model_type, source):  # the file holds settings for both model types
                values[row.section][name] = self._value(row)
        values['model']['model_type'] = model_type
        values['execution'] |= {'backend': self.backend(), 'progress': False}
        return parse(values)

    def _value(self, row: FieldInfo) -> Any:
        if row.ini in self._unreadable:
            raise ConfigError(f'{shown(row)} = {self._unreadable[row.ini]!r} cannot be read; expected {_kind(row)}.')
        value = self.parameters[row.name].get_value()
        kinds = _kinds(row)
        if Path in kinds:
            return _existing_path(value)
        if isinstance(value, str):
            allowed = [str(choice) for choice in _literals(row)]
            if row.name != 'backend' and allowed and value not in allowed:
                raise self._unknown(row, value, allowed)
            return value
        if row.name in SHOWN_DEFAULTS and value == SHOWN_DEFAULTS[row.name]:
            return row.default
        left_open = NoneType in kinds and row.name not in AFTER_NETWORK and value == OPEN.get(row.name, 0)
        return None if left_open else value

    def _unknown(self, row: FieldInfo, value: str, allowed: list[str]) -> ConfigError:
        return ConfigError(f'{shown(row)} = {value!r} is not known; choose one of: {", ".join(allowed)}.')

    def _group(self, section: str) -> ParameterGroup:
        if section not in self._groups:
            known = section in list(self._registry)
            self._groups[section] = self._registry[section] if known else self._registry.create_group(section)
        return self._groups[section]

    def _existing(self, section: str, key: str) -> Parameter[Any] | None:
        if section not in list(self._registry):
            return None
        parameters: Mapping[str, Parameter[Any]] = self._registry[section].parameters()
        return parameters.get(key)

    def _parameter(self, row: FieldInfo) -> Parameter[Any]:
        section, key = row.ini.split('.')
        existing = self._existing(section, key)
        return existing if existing is not None else self._create(self._group(section), key, row)

    def _create(self, group: ParameterGroup, key: str, row: FieldInfo) -> Parameter[Any]:
        kinds = _kinds(row)
        if row.name == 'backend':
            return group.create_string_parameter(key, resolve_title(_first_backend()))
        if bool in kinds:
            return group.create_boolean_parameter(key, bool(SHOWN_DEFAULTS.get(row.name, row.default)))
        if int in kinds or float in kinds:
            low, high = limits(row)
            create = group.create_integer_parameter if int in kinds else group.create_real_parameter
            parameter = create(key, _number_default(row), minimum=low, maximum=high)
            self._forgive(parameter, row)
            return parameter
        return group.create_string_parameter(key, '' if row.default is None else str(row.default))

    def _forgive(self, parameter: IntegerParameter | RealParameter, row: FieldInfo) -> None:
        """A text that is no number must not abort Ptychodus when it reads an INI file: told now, and again on use."""
        read, write, shown_value = parameter.set_value_from_string, parameter.set_value, parameter.get_value_as_string
        automatic = OPEN.get(row.name, 0) if row.auto and row.name not in SHOWN_DEFAULTS else None

        def set_value(value: Any, *, notify: bool = True) -> None:
            self._unreadable.pop(row.ini, None)
            write(value, notify=notify)

        def set_value_from_string(value: str) -> None:
            try:
                read(str(automatic) if automatic is not None and value == AUTO else value)
            except ValueError:
                self._unreadable[row.ini] = value
                self._logger.error('%s = %r cannot be read; expected %s.', shown(row), value, _kind(row))

        def get_value_as_string() -> str:
            return AUTO if parameter.get_value() == automatic else shown_value()

        parameter.get_value_as_string = get_value_as_string  # type: ignore[method-assign]
        parameter.set_value_from_string = set_value_from_string  # type: ignore[assignment,method-assign]
        parameter.set_value = set_value  # type: ignore[method-assign]


# Defaults of the host's own keys that are not ours: an INI file saved with them asks for nothing, so ours are meant.
HOST_DEFAULTS: dict[str, Any] = {'probe_scale': 4.0, 'nphotons': 1e6}
# What automatic means after a network: shown instead, since 0 has a meaning of its own here.
AFTER_NETWORK: dict[str, Any] = {'prior': 1.0, 'wavefront': True}
SHOWN_DEFAULTS = HOST_DEFAULTS | AFTER_NETWORK
OPEN = {'passes': -1}  # what stands for 'automatic' in a widget where 0 means none
HOST_MODEL_PATH = '/path/to/model.zip'


def shown(row: FieldInfo) -> str:
    """A setting as it stands in an INI file: '[Section] Key'."""
    section, key = row.ini.split('.')
    return f'[{section}] {key}'


def limits(row: FieldInfo) -> tuple[Any, Any]:
    """Smallest and largest value of a number; 0 is allowed, as 'automatic', where None is."""
    kinds = _kinds(row)
    low, high = (0, LARGEST) if int in kinds else (0.0, LARGEST_REAL)
    for limit in SECTIONS[row.section].model_fields[row.name].metadata:
        low = getattr(limit, 'ge', getattr(limit, 'gt', low))
        high = getattr(limit, 'le', getattr(limit, 'lt', high))
    return (type(low)(OPEN.get(row.name, 0)) if NoneType in kinds else low), high


def _number_default(row: FieldInfo) -> Any:
    value = SHOWN_DEFAULTS.get(row.name, row.default)
    return OPEN.get(row.name, 0) if value is None else value


def _kinds(row: FieldInfo) -> tuple[Any, ...]:
    annotation = SECTIONS[row.section].model_fields[row.name].annotation
    return get_args(annotation) if get_origin(annotation) not in (None, Literal) else (annotation,)


def _literals(row: FieldInfo) -> tuple[Any, ...]:
    return tuple(value for kind in _kinds(row) if get_origin(kind) is Literal for value in get_args(kind))


def _kind(row: FieldInfo) -> str:
    return 'a whole number' if int in _kinds(row) else 'a number'


def _first_backend() -> str:
    """The default backend where it is installed, otherwise one that is."""
    default: str = Config().execution.backend
    there = installed()
    return default if default in there or not there else there[0]


def _path(value: object) -> Path | None:
    text = str(value).strip()
    return None if text in ('', '.') else Path(text).expanduser()


def _existing_path(value: object) -> Path | None:
    return None if str(value) == HOST_MODEL_PATH else _path(value)
