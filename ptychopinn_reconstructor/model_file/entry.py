"""The types of which the manifest of a model file is made: strict, bounded, finite, immutable."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Entry(BaseModel):
    """An object of the manifest: every key must be there, no other may, and no type is converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra='forbid', frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


def _check_order(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f'the smallest value {limits[0]} is above the largest {limits[1]}')
    return limits


Word = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=2**16)]
Count = Annotated[int, Field(ge=0, le=2**53)]  # what any reader of JSON keeps exactly
Length = Annotated[int, Field(ge=1, le=2**16)]  # along one axis
Digest = Annotated[str, Field(pattern='^[0-9a-f]{64}$')]  # SHA-256
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[float, float], AfterValidator(_check_order)]  # smallest and largest value
