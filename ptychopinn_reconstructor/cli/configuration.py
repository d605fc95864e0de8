"""The configuration of a run: command line over file over default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..config import AUTO, SECTIONS, Config, field_table, migrate, section_of
from ..config.yaml_text import parse_yaml
from ..errors import ConfigError, quote
from .options import select_given

PRESETS = 'ptychopinn_reconstructor.configs'
NULLS = ('', '~', 'null')

Overrides = dict[str, dict[str, Any]]


def resolve(
    base: Config,
    file: str | None,
    settings: Sequence[str],
    options: Mapping[str, Any],
    settled: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Config:
    """`base` with a file's settings, then those of the command line: --set key=value and options, then the `settled`.

    Raises ConfigError when any is unknown, of a wrong type, out of range or given twice.
    """
    from_file = read_file(file) if file is not None else {}
    return base.merged(from_file, read_command_line(settings, options), settled)


def read_command_line(settings: Sequence[str], options: Mapping[str, Any]) -> Overrides:
    """Settings from --set and from options, by section; ConfigError when one is given both ways or is not key=value."""
    overrides: Overrides = {section: {} for section in SECTIONS}
    for setting in settings:
        key, separator, value = setting.partition('=')
        if not separator:
            raise ConfigError(
                f'--set {quote(setting)} is not of the form key=value; write for example --set nepochs=20.'
            )
        section, name = section_of(key.strip())
        overrides[section][name] = None if value.strip() in NULLS else value.strip()
    for section, name, value in select_given(options):
        if name in overrides[section]:
            raise ConfigError(f'{name} is given twice, by --set and by an option; leave one out.')
        overrides[section][name] = str(value) if isinstance(value, Path) else value
    return overrides


def read_file(file: str) -> Overrides:
    """The settings of a YAML file, or of a shipped preset when there is no such file."""
    values = parse_yaml(_read_text(file), file, 'start from --print-config')
    if not isinstance(values, dict):
        raise ConfigError(f'{file} holds no settings by section; it must look like what --print-config prints.')
    sections = migrate(values)
    sections.pop('format_version', None)
    return {str(section): _check_fields(file, str(section), fields) for section, fields in sections.items()}


def dump_yaml(config: Config) -> str:
    """A configuration as --print-config shows it and --config takes it."""
    import yaml

    values = config.to_json()
    for row in field_table():
        if row.auto and values[row.section][row.name] is None:
            values[row.section][row.name] = AUTO
    return str(yaml.safe_dump(values, sort_keys=False))


def list_presets() -> list[str]:
    """Names of the shipped presets."""
    found = (resource.name for resource in resources.files(PRESETS).iterdir())
    return sorted(name.removesuffix('.yaml') for name in found if name.endswith('.yaml'))


def _read_text(file: str) -> str:
    path = Path(file)
    if not path.exists() and file in list_presets():
        return resources.files(PRESETS).joinpath(f'{file}.yaml').read_text(encoding='utf-8')
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not text'
        raise ConfigError(
            f'Cannot read the configuration {file} ({reason}); '
            f'pass a YAML file or a preset: {", ".join(list_presets())}.'
        ) from error


def _check_fields(file: str, section: str, fields: Any) -> dict[str, Any]:
    if fields is not None and not isinstance(fields, dict):
        raise ConfigError(
            f'The section {quote(section)} of {file} is {quote(fields)}; it must hold settings as key: value.'
        )
    return {str(key): _restore_text(str(key), value) for key, value in (fields or {}).items()}


def _restore_text(name: str, value: Any) -> Any:
    """YAML reads `precision: 32` as a number where the setting is a name."""
    textual = {row.name for row in field_table() if isinstance(row.default, str)}
    return str(value) if name in textual and type(value) is int else value
