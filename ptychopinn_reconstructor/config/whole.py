"""The whole configuration: all sections, from plain values, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ConfigError
from .fields import Section
from .sections import DataConfig, ExecutionConfig, InferenceConfig, ModelConfig, RefinementConfig, TrainingConfig

FORMAT_VERSION: Final = 1


class Config(BaseModel):
    """Everything that can be set, with the version of its format."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra='forbid')

    format_version: Literal[1] = FORMAT_VERSION
    """Version of this layout; older ones are brought up by `migrate`."""
    model: ModelConfig = ModelConfig()
    """The network and the object it describes."""
    data: DataConfig = DataConfig()
    """Which patterns are used, and their unit."""
    training: TrainingConfig = TrainingConfig()
    """How the network is trained."""
    inference: InferenceConfig = InferenceConfig()
    """How a trained network is turned into an object."""
    refinement: RefinementConfig = RefinementConfig()
    """The engine."""
    execution: ExecutionConfig = ExecutionConfig()
    """Where and how it runs."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode='json')

    def merged(self, overrides: Mapping[str, Mapping[str, Any]]) -> Config:
        """A copy with `overrides` (section -> field -> value) applied and checked; ConfigError when one is bad."""
        values = self.to_json()
        for section, fields in overrides.items():
            if section not in SECTIONS:
                raise ConfigError(f'There is no section {section!r}; choose one of {", ".join(SECTIONS)}.')
            if not isinstance(fields, Mapping):
                raise ConfigError(f'The section {section!r} is {fields!r}; it must hold settings as key: value.')
            values[section] |= fields
        return parse(values)


SECTIONS: dict[str, type[Section]] = {
    name: type(field.default) for name, field in Config.model_fields.items() if isinstance(field.default, Section)
}

# Defaults of a training that starts from a model, where they differ from those of the fields.
FINE_TUNING: Final = {'training': {'learning_rate': 5e-4}}


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the plain values of an older format to this one; ConfigError when the version is unknown."""
    if not isinstance(values, Mapping):
        raise ConfigError(
            f'The configuration is {values!r}; it must hold sections of settings, as --print-config shows.'
        )
    version = values.get('format_version', FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ConfigError(
            f'The configuration has format_version {version!r} but this version reads {FORMAT_VERSION}; '
            'update ptychopinn-reconstructor.'
        )
    return dict(values)


def parse(values: Mapping[str, Any]) -> Config:
    """A Config from plain values of any known version; ConfigError (one sentence) when something is wrong."""
    try:
        return Config.model_validate(migrate(values))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = '.'.join(str(part) for part in first['loc'] if not str(part).startswith(('literal', 'constrained')))
    if first['type'] == 'extra_forbidden':
        return f'There is no setting {key!r}; see ptychopinn train --help for the names.'
    message = first['msg'].removeprefix('Value error, ')
    value = '' if first['type'] == 'value_error' else f' (got {first["input"]!r})'
    return f'Setting {key}: {message}{value}.'
