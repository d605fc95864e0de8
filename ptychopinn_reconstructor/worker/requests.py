"""What can be asked of a worker process: one JSON line, checked on both sides (specs/ptychodus_api_spec.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ..errors import InputError, shorten

PREVIEW_SECONDS = 1.0  # a host's window is drawn about once a second
TRAINING_PREVIEW_SECONDS = 3.0


class _Request(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra='forbid', protected_namespaces=())


class ReconstructRequest(_Request):
    """Reconstruct the scan handed over in the folder `scan` with a model, or with several as an ensemble.

    Without a model the engine alone refines the object of that scan.
    """

    job: Literal['reconstruct'] = 'reconstruct'
    scan: Path
    model: Path | None = None
    ensemble: tuple[Path, ...] = ()
    config: dict[str, Any]
    preview_seconds: float | None = PREVIEW_SECONDS


class TrainRequest(_Request):
    """Train on scan files, or on the scan in the folder `scan`, and leave `model.safetensors` in `output_dir`.

    With data.source procedural the (first) scan only says for which instrument to pretrain. `initial` is a model whose
    weights are trained further. `finish`: the training in `output_dir` was stopped; its best epoch becomes the model,
    and no other is trained.
    """

    job: Literal['train'] = 'train'
    output_dir: Path
    config: dict[str, Any]
    scan: Path | None = None
    name: str = ''
    files: tuple[Path, ...] = ()
    validation: Path | None = None
    initial: Path | None = None
    resume: bool = False
    finish: bool = False
    preview_seconds: float | None = TRAINING_PREVIEW_SECONDS

    @model_validator(mode='after')
    def _require_patterns(self) -> Self:
        if self.scan is None and not self.files:
            raise ValueError('neither a scan nor files to train on are named')
        return self


class DiagnoseRequest(_Request):
    """Find out what is wrong with the scan handed over in the folder `scan`, as it is."""

    job: Literal['diagnose'] = 'diagnose'
    scan: Path


class DevicesRequest(_Request):
    """List the devices of backends, each by its entry-point name."""

    job: Literal['devices'] = 'devices'
    backends: tuple[str, ...]


Request = ReconstructRequest | TrainRequest | DiagnoseRequest | DevicesRequest
_adapter: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator='job')])


def parse_request(line: str) -> Request:
    """A request from its JSON line; InputError when it is none."""
    try:
        return _adapter.validate_json(line)
    except (ValidationError, RecursionError) as error:
        reason = shorten(error) if isinstance(error, RecursionError) else _describe_first(error)
        raise InputError(f'The worker was asked for nothing that it can do: {reason}; update both sides.') from error


def _describe_first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = shorten('.'.join(map(str, first['loc'])))
    return f'{place}: {shorten(first["msg"], 160)}' if place else shorten(first['msg'], 160)
