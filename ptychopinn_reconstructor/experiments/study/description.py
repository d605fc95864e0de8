"""Description of a study: varied and fixed parameters, from a YAML file or a shipped study and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...backend import resolve_name
from ...config import Config, applicable
from ...config.yaml_text import parse_yaml
from ...errors import ConfigError, quote
from ...io.atomic import write_atomically

STUDIES = 'ptychopinn_reconstructor.configs'
FOLDER = 'studies'
AUTO: Final = 'auto'
VARIED = ('dose', 'overlap', 'gridsize', 'train_patterns', 'model', 'backend', 'passes', 'engine_passes')
Model = Literal['pinn', 'supervised', 'pretrained', 'engine']
# Model type and source of the patterns of each kind of network.
KINDS: Final = {
    'pinn': ('pinn', 'scans'),
    'supervised': ('supervised', 'scans'),
    'pretrained': ('supervised', 'procedural'),
}
Numbers = tuple[int, ...]


class Study(BaseModel):
    """A grid of runs; every combination of the varied values is one. Lengths are in object pixels."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra='forbid', allow_inf_nan=False)

    # what is varied
    dose: tuple[float, ...] = Field(default=(1e5,), min_length=1)
    """Photons incident per pattern."""
    overlap: tuple[float, ...] = Field(default=(65.0,), min_length=1)
    """Overlap of neighboring spots in percent: 100 (1 - step / D), D = diameter that holds 90 % of the energy."""
    gridsize: Numbers = ()
    """Patterns that must agree are gridsize^2 (neighbor_count follows); empty: as in the settings."""
    train_patterns: Numbers = ()
    """Patterns of a scan of another object to train on; empty: train on the scan that is reconstructed."""
    model: tuple[Model, ...] = Field(default=('pinn', 'engine'), min_length=1)
    """Networks that learn from the patterns, from the object, or were pretrained for the probe; or no network."""
    backend: tuple[str, ...] = Field(default=('torch',), min_length=1)
    """Backends of the networks."""
    passes: tuple[int | Literal['auto'], ...] = Field(default=(AUTO,), min_length=1)
    """Passes of the engine after the network; auto: as the reconstruction chooses by itself."""
    engine_passes: Numbers = Field(default=(20,), min_length=1)
    """Passes of the engine alone."""
    seeds: int = Field(default=3, ge=1, le=100)
    """Repeats, each with its own positions, noise and initial weights (and object, unless a scan gives it)."""

    # what is the same for all
    scan: Path | None = None
    """Scan file whose object and probe are taken; otherwise both are drawn as `object` and `probe` say."""
    object: str = 'cells'
    """Kind of object; also of the other object that is trained on with train_patterns."""
    probe: str = 'defocused'
    """Kind of probe."""
    n: int = Field(default=64, ge=16)
    """Side of a pattern."""
    area: float = Field(default=252.0, gt=16)
    """Side of the square between the outermost positions."""
    max_cpu_seconds: float = Field(default=240.0, gt=0)
    """Limit of each training, CPU seconds."""
    patterns_seen: int = Field(default=70_000, ge=1)
    """Patterns that each training visits, so that its epochs follow the number of its patterns."""
    pretrained: Path | None = None
    """Model of the runs called pretrained; none: one is pretrained for each dose and seed."""
    settings: dict[str, dict[str, Any]] = {}
    """Settings of training and reconstruction, by section."""

    @field_validator(*VARIED, mode='before')
    @classmethod
    def _wrap_single_value(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float, str)) else value

    @field_validator('dose')
    @classmethod
    def _check_photons(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return _check_range(values, 1.0, 1e9, 'photons')

    @field_validator('overlap')
    @classmethod
    def _check_percent(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return _check_range(values, -100.0, 95.0, 'percent')

    @field_validator('backend')
    @classmethod
    def _resolve_names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(resolve_name(name) for name in values))

    def fixed(self) -> dict[str, Any]:
        """Fixed parameters as plain JSON types, which must be equal for all runs in one folder."""
        return self.model_dump(mode='json', exclude={*VARIED, 'seeds'})


def write_description(path: Path, study: Study) -> None:
    """Write a study as a YAML file that `read_description` reads."""
    import yaml

    with write_atomically(path) as temporary:
        temporary.write_text(yaml.safe_dump(study.model_dump(mode='json'), sort_keys=False), encoding='utf-8')


def _check_range(values: tuple[float, ...], low: float, high: float, unit: str) -> tuple[float, ...]:
    for value in values:
        if not low <= value <= high:
            raise ValueError(f'{value:g} is not between {low:g} and {high:g} {unit}')
    return tuple(dict.fromkeys(values))


def list_studies() -> list[str]:
    """Names of the shipped studies."""
    found = (resource.name for resource in resources.files(STUDIES).joinpath(FOLDER).iterdir())
    return sorted(name.removesuffix('.yaml') for name in found if name.endswith('.yaml'))


def read_description(source: str | None, overrides: Mapping[str, Any]) -> Study:
    """Study read from a file or a shipped description, or the default, with `overrides` (field -> value) applied.

    Raises ConfigError when there is no such file, or a value is unknown or out of range.
    """
    values = {} if source is None else _read(source)
    settings = _merge_settings(values.pop('settings', None) or {}, overrides.get('settings') or {}, source)
    given = {key: value for key, value in overrides.items() if key != 'settings' and value is not None}
    try:
        study = Study.model_validate({**values, **given, 'settings': settings})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = '.'.join(map(str, first['loc'][:1]))
        if first['type'] == 'extra_forbidden':
            known = ', '.join(Study.model_fields)
            raise ConfigError(f'A study has nothing called {quote(name)}; there are: {known}.') from error
        message = first['msg'].removeprefix('Value error, ')
        raise ConfigError(f'{name} of the study: {message} (got {quote(first["input"])}).') from error
    check_settings(study)
    return study


def layer_settings(study: Study, model: str) -> list[dict[str, dict[str, Any]]]:
    """Layers of settings for a kind of network: its type, and the study's settings that apply to it."""
    model_type, source = KINDS[model]
    kind = {'model': {'model_type': model_type}, 'data': {'source': source}}
    return [kind, applicable(study.settings, model_type, source)]


def check_settings(study: Study) -> None:
    """Raise ConfigError if a setting of a study is invalid, or applies to none of its networks."""
    models = [model for model in study.model if model in KINDS] or ['pinn']
    layers = {model: layer_settings(study, model) for model in models}
    for model in models:
        Config().merged(*layers[model])
    for section, fields in study.settings.items():
        for name, value in fields.items():
            if not any(name in settings.get(section, {}) for _, settings in layers.values()):
                Config().merged(layers[models[0]][0], {section: {name: value}})


def _merge_settings(own: Any, more: Mapping[str, Mapping[str, Any]], source: str | None) -> dict[str, dict[str, Any]]:
    if not isinstance(own, dict) or not all(isinstance(fields, dict) for fields in own.values()):
        raise ConfigError(f'The settings of {source} must be sections of key: value, as --print-config shows.')
    return {
        section: {**own.get(section, {}), **more.get(section, {})}
        for section in dict.fromkeys([*own, *more])
        if own.get(section) or more.get(section)
    }


def _read(source: str) -> dict[str, Any]:
    values = parse_yaml(_read_text(source), source, 'mend it')
    if not isinstance(values, dict):
        raise ConfigError(f'{source} holds no study; write for example dose: [1e3, 1e5].')
    return {str(key): value for key, value in values.items()}


def _read_text(source: str) -> str:
    path = Path(source)
    if not path.exists() and source in list_studies():
        return resources.files(STUDIES).joinpath(FOLDER, f'{source}.yaml').read_text(encoding='utf-8')
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not text'
        raise ConfigError(
            f'Cannot read the study {source} ({reason}); pass a YAML file or one of {", ".join(list_studies())}.'
        ) from error
