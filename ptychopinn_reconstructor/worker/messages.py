"""What a worker process answers: one JSON line a message, checked on both sides (specs/ptychodus_api_spec.md).

Arrays and other large data are files in the worker's folder, which a message names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from .. import events
from ..diagnosis.finding import Finding
from ..events import Notice
from ..result import RunInfo

# JSON has no number that is not finite: such a one is null, and a NaN again where it is read.
Number = Annotated[float, BeforeValidator(lambda value: float('nan') if value is None else value)]
Losses = tuple[tuple[int, Number], ...]  # epoch and value


class _Message(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra='forbid', protected_namespaces=())


class Started(_Message):
    """A job has begun, on a device of a backend, both as people call them."""

    event: Literal['started'] = 'started'
    job: str
    device: str
    backend: str


class Progress(_Message):
    """How much of a stage is done."""

    event: Literal['progress'] = 'progress'
    stage: str
    done: float
    total: float


class Epoch(_Message):
    """An epoch of a training is complete, or a pass of a refinement, with what is known of it."""

    event: Literal['epoch'] = 'epoch'
    stage: Literal['train', 'refine']
    epoch: int
    total: int
    train_loss: float | None = None
    val_loss: float | None = None
    learning_rate: float | None = None
    patterns_seen: int | None = None
    cpu_seconds: float | None = None
    residual: float | None = None


class Preview(_Message):
    """The object (H, W) as it is now, in the file `object`; how far it is by epochs, or by patterns of the network."""

    event: Literal['preview'] = 'preview'
    stage: Literal['train', 'network', 'refine']
    object: Path
    origin: tuple[float, float]
    complete: bool
    total: int
    epoch: int | None = None
    patterns: int | None = None


class Log(_Message):
    """A line for the user, with its level as Python's logging names it, in small letters."""

    event: Literal['log'] = 'log'
    level: str
    message: str


class ReconstructDone(_Message):
    """A reconstruction is complete: its arrays as files, and what is known of it.

    `positions` are those that were refined, None where they were not; `reliability` is one line, `reliability_file`
    holds all of it (`diagnostic_pictures.from_bytes`).
    """

    event: Literal['done'] = 'done'
    job: Literal['reconstruct'] = 'reconstruct'
    object: Path
    probe: Path
    positions: Path | None
    origin: tuple[float, float]
    comments: str
    losses: Losses
    residual: Number
    reliability: str
    reliability_file: Path
    run: RunInfo
    notices: tuple[Notice, ...]
    stages: Mapping[str, Mapping[str, float]]
    import_seconds: float


class TrainDone(_Message):
    """A training is complete: the path of its model and its training losses."""

    event: Literal['done'] = 'done'
    job: Literal['train'] = 'train'
    model: Path
    losses: Losses
    notices: tuple[Notice, ...]


class DiagnoseDone(_Message):
    """What is wrong with a scan, the first cause first; the picture of its trials is a PNG file, if there is one."""

    event: Literal['done'] = 'done'
    job: Literal['diagnose'] = 'diagnose'
    findings: tuple[Finding, ...]
    figures: Mapping[str, Number]
    trials: int
    cpu_seconds: float
    picture: Path | None


class DevicesDone(_Message):
    """The names of the devices of each backend, none of one that cannot be loaded."""

    event: Literal['done'] = 'done'
    job: Literal['devices'] = 'devices'
    devices: dict[str, list[str]]


class Stopped(_Message):
    """The job has ended because it was asked to."""

    event: Literal['stopped'] = 'stopped'
    message: str


class Error(_Message):
    """The job has failed: the class of errors.py, and one sentence."""

    event: Literal['error'] = 'error'
    kind: str
    message: str


Done = Annotated[ReconstructDone | TrainDone | DiagnoseDone | DevicesDone, Field(discriminator='job')]
Message = Started | Progress | Epoch | Preview | Log | Done | Stopped | Error
_adapter: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator='event')])


def parse_message(line: str) -> Message:
    """A message from its JSON line; pydantic's ValidationError when it is none."""
    return _adapter.validate_json(line)


def message_of(event: events.Started | events.Progress | events.Epoch | events.Log) -> Message:
    """An event of a job as a message."""
    return _adapter.validate_python({'event': type(event).__name__.lower(), **asdict(event)})
