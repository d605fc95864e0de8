"""manifest.json of a model bundle: its schema and what goes into it (specs/checkpoint_format.md, section 3)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ..errors import ModelFileError

FORMAT = 'ptychopinn-bundle'
FORMAT_VERSION = 1
MANIFEST, WEIGHTS, PROBE, SELFTEST = 'manifest.json', 'weights.safetensors', 'probe.safetensors', 'selftest.safetensors'
MEMBERS = (WEIGHTS, PROBE, SELFTEST)
MAX_MANIFEST = 16 * 2**20  # bytes
MAX_TOLERANCE = 1e-5  # of the amplitude range

Text = Annotated[str, Field(min_length=1)]
Size = Annotated[int, Field(ge=0)]
Plain = dict[str, JsonValue]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra='forbid', frozen=True)


class _Member(_Strict):
    size: Size
    sha256: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]


class _Array(_Strict):
    name: Text
    shape: list[Size | None]
    dtype: Text
    axes: list[str]
    unit: str
    description: str


class _Weight(_Strict):
    name: Text
    shape: list[Size]
    dtype: Literal['float32']


class _SelfTestInfo(_Strict):
    tolerance: Annotated[float, Field(gt=0, le=MAX_TOLERANCE)]
    amplitude_range: Annotated[float, Field(gt=0)]
    distance_to_fresh: Annotated[float, Field(gt=0)]


class _Members(_Strict):
    weights: _Member = Field(alias='weights.safetensors')
    probe: _Member = Field(alias='probe.safetensors')
    selftest: _Member = Field(alias='selftest.safetensors')


class _Manifest(_Strict):
    format: Literal['ptychopinn-bundle']
    format_version: Literal[1]
    created: Text
    backend: Text
    architecture: Plain
    config: Plain
    inputs: list[_Array]
    outputs: list[_Array]
    scaling: Plain
    training: Plain
    versions: dict[str, str]
    members: _Members
    weights: Annotated[list[_Weight], Field(min_length=1)]
    selftest: _SelfTestInfo


def parse_manifest(file: Path, data: bytes) -> dict[str, Any]:
    """manifest.json as plain JSON types; raises ModelFileError when it is not JSON or does not fit this version."""
    try:
        manifest = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"The manifest of '{file}' is not JSON ({error}); copy the bundle again.") from error
    if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
        raise ModelFileError(
            f"The manifest of '{file}' does not say format '{FORMAT}'; hand in the model.zip of a training."
        )
    version = manifest.get('format_version')
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ModelFileError(
            f"The model bundle '{file}' has format version {version!r} but this program reads {FORMAT_VERSION}; "
            'install the version of ptychopinn-reconstructor that wrote it.'
        )
    try:
        _Manifest.model_validate(manifest)
    except (ValidationError, RecursionError) as error:
        raise ModelFileError(
            f"The manifest of '{file}' does not fit the format: {_first(error)}; copy the bundle again."
        ) from error
    return manifest


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return 'it is nested too deeply'
    detail = error.errors(include_url=False)[0]
    return f'{".".join(map(str, detail["loc"]))}: {detail["msg"]}'


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is no JSON number')


def weight_table(weights: Mapping[str, NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Name, shape and dtype of every weight, sorted by name."""
    return [
        {'name': name, 'shape': list(weights[name].shape), 'dtype': str(weights[name].dtype)}
        for name in sorted(weights)
    ]


def axes_tables(n_pixels: int, n_patch: int) -> dict[str, list[dict[str, Any]]]:
    """The manifest's `inputs` and `outputs`: axes, units and meaning of the network's arrays."""
    axes = ['pattern', 'row', 'column']
    return {
        'inputs': [
            {
                'name': 'counts',
                'shape': [None, n_pixels, n_pixels],
                'dtype': 'float32',
                'axes': axes,
                'unit': 'counts',
                'description': 'diffraction intensity, zero frequency at [N//2, N//2], bad pixels zero',
            }
        ],
        'outputs': [
            {
                'name': 'patches',
                'shape': [None, n_patch, n_patch],
                'dtype': 'complex64',
                'axes': axes,
                'unit': '1',
                'description': "complex transmission of the object in the probe's frame, centered in the N x N window",
            }
        ],
    }


def plain(value: Any, *, finite: bool = True) -> Any:
    """`value` in JSON types; raises ModelFileError on others. NaN and infinity become None where not `finite`."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {_key(key): plain(item, finite=finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, finite=finite) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not np.isfinite(value):
        if finite:
            raise ModelFileError(f'A setting to be saved is {value}; only finite numbers can be saved.')
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ModelFileError(
        f'A value of type {type(value).__name__} cannot be saved as JSON; pass plain numbers and text.'
    )


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    raise ModelFileError(f'A mapping to be saved as JSON has the key {key!r}; keys must be text.')
