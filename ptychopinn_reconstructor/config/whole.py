"""The whole configuration: all sections, from plain values, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from ..errors import ConfigError, quote, shorten
from .fields import Section, no_effect
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

    @model_validator(mode='after')
    def _refuse_what_has_no_effect(self) -> Self:
        for section, model in SECTIONS.items():
            for name, field in model.model_fields.items():
                value, reach = getattr(getattr(self, section), name), self._no_effect(field)
                if reach and value != field.default:
                    shown = str(value) if isinstance(value, Path) else quote(value)
                    raise ValueError(
                        f'{section}.{name} = {shown} has no effect: {reach}; leave it at its default, {field.default!r}'
                    )
        training, learns_from_counts = self.training, not self._no_effect(TrainingConfig.model_fields['nll_weight'])
        if learns_from_counts and not (training.nll_weight or training.mae_weight):
            raise ValueError('nll_weight and mae_weight are both 0, so there is nothing to learn; set one above 0')
        return self

    def _no_effect(self, field: FieldInfo) -> str:
        extra: Any = field.json_schema_extra
        return no_effect(extra['applies'], extra['sources'], self.model.model_type, self.data.source)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode='json')

    def merged(self, *layers: Mapping[str, Mapping[str, Any]]) -> Config:
        """A copy with `layers` (section -> field -> value), the later over the earlier; ConfigError when it is bad.

        Only the whole is checked: a layer may hold what another makes possible.
        """
        values = self.to_json()
        for section, fields in (item for layer in layers for item in layer.items()):
            if section not in SECTIONS:
                raise ConfigError(f'There is no section {quote(section)}; choose one of {", ".join(SECTIONS)}.')
            if not isinstance(fields, Mapping):
                raise ConfigError(
                    f'The section {quote(section)} is {quote(fields)}; it must hold settings as key: value.'
                )
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
            f'The configuration is {quote(values)}; it must hold sections of settings, as --print-config shows.'
        )
    version = values.get('format_version', FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ConfigError(
            f'The configuration has format_version {quote(version)} but this version reads {FORMAT_VERSION}; '
            'update ptychopinn-reconstructor.'
        )
    return dict(values)


def parse(values: Mapping[str, Any]) -> Config:
    """A Config from plain values of any known version; ConfigError (one sentence) when something is wrong."""
    try:
        return Config.model_validate(migrate(values))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error
    except (RecursionError, OverflowError, TypeError, ValueError) as error:  # values that no setting has
        raise ConfigError(f'The configuration cannot be used ({shorten(error)}); mend its values.') from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = '.'.join(str(part) for part in first['loc'] if not str(part).startswith(('literal', 'constrained')))
    if first['type'] == 'extra_forbidden':
        return f'There is no setting {quote(key)}; see ptychopinn train --help for the names.'
    message = first['msg'].removeprefix('Value error, ')
    value = '' if first['type'] == 'value_error' else f' (got {quote(first["input"])})'
    return f'Setting {shorten(key)}: {message}{value}.' if key else f'Setting {message}.'
