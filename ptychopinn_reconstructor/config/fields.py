"""What a setting and a section of settings are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PLUGIN_SECTION = 'PtychoPINNPlugin'  # of an INI file: where the keys stand that Ptychodus does not know by itself
AUTO: Final = 'auto'

Applies = Literal['both', 'pinn', 'supervised']


def setting(
    default: Any,
    description: str,
    *,
    ini: str | None = None,
    option: str | None = None,
    applies: Applies = 'both',
    auto: bool = False,
    **limits: Any,
) -> Any:
    """A setting: default, meaning with its unit, INI key and option where the name does not tell them, reach, range.

    `auto`: None means automatic, and people write and read the word instead.
    """
    extra: Any = {'ini': ini, 'option': option, 'applies': applies, 'auto': auto}
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
