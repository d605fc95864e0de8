"""What a setting and a section of settings are."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

PLUGIN_SECTION = 'PtychoPINNPlugin'  # of an INI file: where the keys stand that Ptychodus does not know by itself

Applies = Literal['both', 'pinn', 'supervised']


def setting(
    default: Any,
    description: str,
    *,
    ini: str | None = None,
    option: str | None = None,
    applies: Applies = 'both',
    **limits: Any,
) -> Any:
    """A setting: default, meaning with its unit, INI key and option where the name does not tell them, reach, range."""
    extra: Any = {'ini': ini, 'option': option, 'applies': applies}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A section of the configuration: immutable, unknown keys refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra='forbid', protected_namespaces=(), allow_inf_nan=False
    )
