"""Settings in Ptychodus: its own keys where it has them, our own section for the rest.

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
from ..errors import ConfigError, quote

# What the host decides: the size of the patterns, the algorithm, the files, the progress bar.
FROM_THE_HOST = {
    'N',
    'model_type',
    'train_data_file',
    'test_data_file',
    'progress',
    'architecture',
    'strategy',
    'devices',
    'num_nodes',
    'scratch_dir',  # one for what is handed over, too
}
# What only the plugin has, with its key and default.
ONLY_IN_PLUGIN: dict[str, tuple[str, Any]] = {
    'resume': ('Resume', False),
    'start_from_model': ('StartFromModel', False),
    'start_from_object': ('StartFromObject', False),
    'scratch_dir': ('ScratchDir', ''),
    'further_models': ('FurtherModels', ''),
}
LARGEST = 1 << 30
LARGEST_REAL = 1e12


class PluginSettings:
    """Parameters of all settings by their names in `config`, and of those that only the plugin has.

    `resume`: Train goes on with the training in its folder. `start_from_model`: it starts from the model in use.
    `start_from_object`: Infer refines the object of the selected product, without a model.
    `scratch_dir`: folder for handing scans over. `further_models`: those of an ensemble, beside the model in use.
    `defaults`: the values before any INI file is read.
    """

    def __init__(self, registry: SettingsRegistry, logger: logging.Logger) -> None:
        self._logger = logger
        self._groups: dict[str, ParameterGroup] = {}
        self._registry = registry
        self._unreadable: dict[str, str] = {}
        self.rows = {row.name: row for row in field_table() if row.name not in FROM_THE_HOST}
        self.parameters = {name: self._find_or_create(row) for name, row in self.rows.items()}
        own = self._find_group(PLUGIN_SECTION)
        for name, (key, default) in ONLY_IN_PLUGIN.items():
            create = own.create_boolean_parameter if isinstance(default, bool) else own.create_string_parameter
            self.parameters[name] = create(key, default)
        self.defaults = {name: parameter.get_value() for name, parameter in self.parameters.items()}

    def __getitem__(self, name: str) -> Parameter[Any]:
        return self.parameters[name]

    def choices(self, name: str) -> list[str]:
        """Allowed values of a setting as displayed; empty where it is free."""
        if name == 'backend':
            return [described.title for described in describe_backends().values()]
        return [str(value) for value in _choices(self.rows[name])]

    def backend(self) -> str:
        """Entry-point name of the chosen backend; ConfigError lists the choices if it is unknown."""
        title = str(self['backend'].get_value())
        name = resolve_name(title)
        if name not in find_entry_points():
            raise self._make_error(self.rows['backend'], title, self.choices('backend'))
        return name

    def scratch_folder(self) -> Path | None:
        """Parent of the scratch folders; None for the system's temporary folder."""
        return _parse_path(self['scratch_dir'].get_value())

    def model_path(self) -> Path | None:
        """Path of the model in the settings; None if there is none, or the host's placeholder."""
        return _parse_model_path(self['model_path'].get_value())

    def further_models(self) -> tuple[Path, ...]:
        """Paths of the models that infer together with the one in use."""
        named = str(self['further_models'].get_value()).split(os.pathsep)
        return tuple(path for path in map(_parse_path, named) if path is not None)

    def makes_passes(self) -> bool:
        """Whether the engine improves what a network predicts."""
        return self._read_value(self.rows['passes']) != 0

    def config(self, model_type: str) -> Config:
        """Configuration for a model type; ConfigError names a bad setting by its section and key."""
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        source = str(self['source'].get_value())
        for name, row in self.rows.items():
            if row.has_effect(model_type, source):  # the file holds settings for both model types
                values[row.section][name] = self._read_value(row)
        values['model']['model_type'] = model_type
        values['execution'] |= {'backend': self.backend(), 'progress': False}
        return parse(values)

    def _read_value(self, row: FieldInfo) -> Any:
        if row.ini in self._unreadable:
            raise ConfigError(
                f'{format_key(row)} = {quote(self._unreadable[row.ini])} cannot be read; '
                f'expected {_describe_type(row)}.'
            )
        value = self.parameters[row.name].get_value()
        kinds = _value_types(row)
        if Path in kinds:
            return _parse_model_path(value)
        if isinstance(value, str):
            allowed = [str(choice) for choice in _choices(row)]
            if row.name != 'backend' and allowed and value not in allowed:
                raise self._make_error(row, value, allowed)
            return value
        if row.name in HOST_DEFAULTS and value == HOST_DEFAULTS[row.name]:
            return row.default
        left_open = NoneType in kinds and value == OPEN.get(row.name, 0)
        return None if left_open else value

    def _make_error(self, row: FieldInfo, value: str, allowed: list[str]) -> ConfigError:
        return ConfigError(f'{format_key(row)} = {quote(value)} is not known; choose one of: {", ".join(allowed)}.')

    def _find_group(self, section: str) -> ParameterGroup:
        if section not in self._groups:
            known = section in list(self._registry)
            self._groups[section] = self._registry[section] if known else self._registry.create_group(section)
        return self._groups[section]

    def _find_parameter(self, section: str, key: str) -> Parameter[Any] | None:
        if section not in list(self._registry):
            return None
        parameters: Mapping[str, Parameter[Any]] = self._registry[section].parameters()
        return parameters.get(key)

    def _find_or_create(self, row: FieldInfo) -> Parameter[Any]:
        section, key = row.ini.split('.')
        existing = self._find_parameter(section, key)
        return existing if existing is not None else self._create(self._find_group(section), key, row)

    def _create(self, group: ParameterGroup, key: str, row: FieldInfo) -> Parameter[Any]:
        kinds = _value_types(row)
        if row.name == 'backend':
            return group.create_string_parameter(key, resolve_title(_default_backend()))
        if bool in kinds:
            return group.create_boolean_parameter(key, bool(HOST_DEFAULTS.get(row.name, row.default)))
        if int in kinds or float in kinds:
            low, high = find_limits(row)
            create = group.create_integer_parameter if int in kinds else group.create_real_parameter
            parameter = create(key, _default_number(row), minimum=low, maximum=high)
            self._accept_unreadable(parameter, row)
            return parameter
        return group.create_string_parameter(key, '' if row.default is None else str(row.default))

    def _accept_unreadable(self, parameter: IntegerParameter | RealParameter, row: FieldInfo) -> None:
        """Log text that is no number and refuse it on use: on reading an INI file it would abort Ptychodus."""
        read, write, shown_value = parameter.set_value_from_string, parameter.set_value, parameter.get_value_as_string
        automatic = OPEN.get(row.name, 0) if row.auto and row.name not in HOST_DEFAULTS else None

        def set_value(value: Any, *, notify: bool = True) -> None:
            self._unreadable.pop(row.ini, None)
            write(value, notify=notify)

        def set_value_from_string(value: str) -> None:
            try:
                read(str(automatic) if automatic is not None and value == AUTO else value)
            except ValueError:
                self._unreadable[row.ini] = value
                self._logger.error('%s = %r cannot be read; expected %s.', format_key(row), value, _describe_type(row))

        def get_value_as_string() -> str:
            return AUTO if parameter.get_value() == automatic else shown_value()

        parameter.get_value_as_string = get_value_as_string  # type: ignore[method-assign]
        parameter.set_value_from_string = set_value_from_string  # type: ignore[assignment,method-assign]
        parameter.set_value = set_value  # type: ignore[method-assign]


# Defaults of the host's own keys that are not ours: an INI file saved with them asks for nothing, so ours are meant.
HOST_DEFAULTS: dict[str, Any] = {'probe_scale': 4.0, 'nphotons': 1e6}
OPEN: dict[str, Any] = {'passes': -1, 'prior': -1.0}  # what stands for 'automatic' in a widget where 0 means none
HOST_MODEL_PATH = '/path/to/model.zip'


def format_key(row: FieldInfo) -> str:
    """Setting as named in an INI file: '[Section] Key'."""
    section, key = row.ini.split('.')
    return f'[{section}] {key}'


def find_limits(row: FieldInfo) -> tuple[Any, Any]:
    """Smallest and largest value of a number; 0 is allowed, as 'automatic', where None is."""
    kinds = _value_types(row)
    low, high = (0, LARGEST) if int in kinds else (0.0, LARGEST_REAL)
    for limit in SECTIONS[row.section].model_fields[row.name].metadata:
        low = getattr(limit, 'ge', getattr(limit, 'gt', low))
        high = getattr(limit, 'le', getattr(limit, 'lt', high))
    return (type(low)(OPEN.get(row.name, 0)) if NoneType in kinds else low), high


def _default_number(row: FieldInfo) -> Any:
    value = HOST_DEFAULTS.get(row.name, row.default)
    return OPEN.get(row.name, 0) if value is None else value


def _value_types(row: FieldInfo) -> tuple[Any, ...]:
    annotation = SECTIONS[row.section].model_fields[row.name].annotation
    return get_args(annotation) if get_origin(annotation) not in (None, Literal) else (annotation,)


def _choices(row: FieldInfo) -> tuple[Any, ...]:
    return tuple(value for kind in _value_types(row) if get_origin(kind) is Literal for value in get_args(kind))


def _describe_type(row: FieldInfo) -> str:
    return 'a whole number' if int in _value_types(row) else 'a number'


def _default_backend() -> str:
    """Name of the default backend if installed, otherwise of one that is."""
    default: str = Config().execution.backend
    there = installed()
    return default if default in there or not there else there[0]


def _parse_path(value: object) -> Path | None:
    text = str(value).strip()
    if text in ('', '.'):
        return None
    try:
        os.fsencode(text)
        path = Path(text).expanduser()
    except (RuntimeError, UnicodeError) as error:  # ~ of a user whom nobody knows; half a character
        raise ConfigError(f'{quote(text)} is no path on this machine ({error}); write the whole path.') from error
    if '\0' in text:
        raise ConfigError(f'{quote(text)} is no path: it has a zero byte; write it again.')
    return path


def _parse_model_path(value: object) -> Path | None:
    return None if str(value) == HOST_MODEL_PATH else _parse_path(value)
