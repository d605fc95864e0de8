"""Typed manifest of a model file (specs/checkpoint_format.md)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError, model_validator

from ..config import Config, parse
from ..errors import ConfigError, ModelFileError, quote
from .entry import Count, Digest, Entry, Length, Positive, Text, Word
from .training_range import TrainingRange

FORMAT = 'ptychopinn-model'
FORMAT_VERSION = 2
MAX_TOLERANCE = 1e-5  # of the amplitude range
MIN_DISTANCE = 100  # tolerances between a fresh network's output and that of one that has learned anything
# What of the configuration decides on the weights' shapes and their meaning.
NETWORK_SETTINGS = ('N', 'n_filters_scale', 'amp_activation', 'amplitude_max', 'probe_big', 'pad_object')


def _parse_config(values: Any) -> Config:
    return values if isinstance(values, Config) else parse(values)


StoredConfig = Annotated[Config, PlainValidator(_parse_config), PlainSerializer(Config.to_json)]


class Architecture(Entry):
    """Parameters from which any backend builds the network; the settings are those of `config.ModelConfig`."""

    name: Word
    N: Length
    n_filters_scale: Positive
    amp_activation: Word
    amplitude_max: Positive
    probe_big: bool
    pad_object: bool
    stride: Length
    parameters: Annotated[int, Field(ge=1, le=2**40)]

    @classmethod
    def of(cls, config: Config, *, stride: int, parameters: int) -> Self:
        """Architecture of a complete configuration (N is set)."""
        settings = {key: getattr(config.model, key) for key in NETWORK_SETTINGS}
        return cls(name=config.model.architecture, stride=stride, parameters=parameters, **settings)


class ArrayInfo(Entry):
    """Axes, unit and meaning of a network input or output; None is a free length."""

    name: Word
    shape: Annotated[tuple[Length | None, ...], Field(max_length=8)]
    dtype: Literal['float32', 'complex64']
    axes: Annotated[tuple[Word, ...], Field(max_length=8)]
    unit: Word
    description: Text


class Scaling(Entry):
    """Scaling constants from counts to network input; probes are identified by the SHA-256 of their values."""

    probe_power: Literal['absolute', 'from_counts']
    power_ratio: Positive
    mean_counts: Positive
    amplitude_unit: Positive
    refined_from: Digest | None
    other_probes: Annotated[tuple[Digest, ...], Field(max_length=10_000)]


class Training(Entry):
    """Origin of the weights: scans, epochs, losses, device; residuals before and after a fine-tuning."""

    scans: Annotated[tuple[Text, ...], Field(max_length=10_000)]
    patterns: Count
    epochs: Count
    patterns_seen: Count
    cpu_seconds: Annotated[float, Field(ge=0)]
    losses: Annotated[tuple[tuple[Count, float], ...], Field(max_length=10**6)]
    device: Word
    monitor: Word
    interrupted: bool
    start_residual: float | None
    residual: float | None
    start_kept: bool | None


class SelfTestInfo(Entry):
    """Largest difference allowed on replay, the recorded amplitude range, the distance to a fresh network."""

    tolerance: Annotated[float, Field(gt=0, le=MAX_TOLERANCE)]
    amplitude_range: Positive
    distance_to_fresh: Positive

    @property
    def has_learned(self) -> bool:
        """Whether the output is far enough from that of a fresh network."""
        return self.distance_to_fresh > MIN_DISTANCE * self.tolerance


class Description(Entry):
    """Part of the manifest that the training supplies."""

    backend: Word
    architecture: Architecture
    config: StoredConfig
    scaling: Scaling
    training: Training
    trained_for: TrainingRange
    versions: Annotated[dict[Word, Word], Field(max_length=100)]
    card: Text | None

    @model_validator(mode='after')
    def _check_agreement(self) -> Self:
        for key, stored in (('name', 'architecture'), *((key, key) for key in NETWORK_SETTINGS)):
            mine, other = getattr(self.architecture, key), getattr(self.config.model, stored)
            if mine != other:
                raise ValueError(f'architecture.{key} is {mine} but config.model.{stored} is {other}')
        return self


class Manifest(Description):
    """All that a model file says of itself; `sha256` is that of the rest of the manifest and of every array."""

    format: Literal['ptychopinn-model']
    format_version: Literal[2]
    created: Annotated[str, Field(pattern=r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$')]
    input: ArrayInfo
    output: ArrayInfo
    self_test: SelfTestInfo
    sha256: Digest

    @property
    def defaults(self) -> dict[str, dict[str, Any]]:
        """Settings of a reconstruction, by section, that are the model's unless something else is said."""
        data = self.config.data
        return {
            'execution': {'backend': self.backend},
            'data': {'probe_power': data.probe_power, 'nphotons': data.nphotons},
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode='json')


def parse_manifest(values: dict[str, Any], where: str) -> Manifest:
    """Manifest parsed from plain JSON types; `where` names the file in a ModelFileError."""
    if values.get('format') != FORMAT:
        raise ModelFileError(f'The manifest of {where} does not say format {FORMAT!r}; hand in a model.safetensors.')
    version = values.get('format_version')
    if type(version) is not int or version != FORMAT_VERSION:
        raise ModelFileError(
            f'The model {where} has format version {quote(version)} but this program reads {FORMAT_VERSION}; '
            'install the version of ptychopinn-reconstructor that wrote it.'
        )
    try:
        return Manifest.model_validate_json(json.dumps(values))
    except ConfigError as error:
        raise ModelFileError(f'The configuration in the model {where} cannot be used: {error}') from error
    except ValidationError as error:
        raise ModelFileError(
            f'The manifest of {where} does not fit the format: {_format_first_error(error)}; copy the file again.'
        ) from error


def _format_first_error(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return ': '.join(filter(None, ('.'.join(map(str, detail['loc'])), detail['msg'].removeprefix('Value error, '))))


def describe_input(n_pixels: int) -> ArrayInfo:
    """Description of the network input: counts (b, N, N)."""
    return ArrayInfo(
        name='counts',
        shape=(None, n_pixels, n_pixels),
        dtype='float32',
        axes=('pattern', 'row', 'column'),
        unit='counts',
        description='diffraction intensity, zero frequency at [N//2, N//2], bad pixels zero',
    )


def describe_output(n_patch: int) -> ArrayInfo:
    """Description of the network output: patches (b, n, n)."""
    return ArrayInfo(
        name='patches',
        shape=(None, n_patch, n_patch),
        dtype='complex64',
        axes=('pattern', 'row', 'column'),
        unit='1',
        description="complex transmission of the object in the probe's frame, centered in the N x N window",
    )
