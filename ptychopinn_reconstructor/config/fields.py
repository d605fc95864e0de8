"""What a setting and a section of settings are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PLUGIN_SECTION = 'PtychoPINNPlugin'  # of an INI file: where the keys stand that Ptychodus does not know by itself
AUTO: Final = 'auto'

Applies = Literal['both', 'pinn', 'supervised']
SOURCES: Final = ('scans', 'procedural', 'mixed')
LEARNS_FROM_SCANS: Final = ('scans', 'mixed')
SIMULATES: Final = ('procedural', 'mixed')


def setting(
    default: Any,
    description: str,
    *,
    ini: str | None = None,
    option: str | None = None,
    applies: Applies = 'both',
    sources: tuple[str, ...] = SOURCES,
    auto: bool = False,
    **limits: Any,
) -> Any:
    """A setting: default, meaning with its unit, INI key and option where the name does not tell them, reach, range.

    `applies` and `sources`: the model types and sources for which it has an effect; away from its default it is refused
    for others. `auto`: None means automatic, and people write and read the word instead.
    """
    extra: Any = {'ini': ini, 'option': option, 'applies': applies, 'sources': sources, 'auto': auto}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A section of the configuration: immutable, unknown keys refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra='forbid', protected_namespaces=(), allow_inf_nan=False
    )

    @model_validator(mode='before')
    @classmethod
    def _read_automatic(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        automatic = {key for key, value in values.items() if isinstance(value, str) and value == AUTO}
        return {**values, **{key: None for key in automatic if cls.is_automatic(key)}}

    @classmethod
    def is_automatic(cls, name: str) -> bool:
        """Whether None means automatic in this field."""
        extra: Any = cls.model_fields[name].json_schema_extra if name in cls.model_fields else None
        return bool(extra and extra['auto'])


def no_effect(applies: Applies, sources: tuple[str, ...], model_type: str, source: str) -> str:
    """Why a setting has no effect for a model type and a source of patterns; empty where it has one.

    Simulated patterns are learned from as in a supervised training, whatever the model type.
    """
    if source not in sources:
        return f'it is for source {" or ".join(sources)}, and this is {source}'
    if applies == 'pinn' and source == 'procedural':
        return 'it is for model_type pinn, and source procedural trains a supervised one'
    if applies == 'pinn' and model_type != 'pinn':
        return f'it is for model_type pinn, and this is {model_type}'
    if applies == 'supervised' and model_type != 'supervised' and source == 'scans':
        return f'it is for model_type supervised and for simulated patterns, and this is {model_type}'
    return ''
