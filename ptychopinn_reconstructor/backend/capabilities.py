"""What a backend may leave out, and which settings ask for it (specs/backend_contract.md, B46)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ..config import Config


class Capability(StrEnum):
    """Part of the contract that a backend may leave out, in the words of the sentence that refuses it."""

    TRAINING = 'training'
    RESUMING = 'resuming a training'
    LABELS = 'learning from known objects'
    PROBE = 'training the probe'
    HALF_PRECISION = 'half precision'
    PROCESSES = 'training in several processes'
    LOGGERS = 'TensorBoard and MLflow'


ALL_CAPABILITIES: Final = frozenset(Capability)
# Whoever only applies a network is asked for nothing else that a setting names.
OF_NETWORKS: Final = frozenset({Capability.HALF_PRECISION})
# Values of settings, section.name, that ask for a capability; the default of none of them does.
ASKING: Final[Mapping[tuple[str, str], tuple[Capability, tuple[Any, ...]]]] = MappingProxyType(
    {
        ('model', 'model_type'): (Capability.LABELS, ('supervised',)),
        ('data', 'source'): (Capability.LABELS, ('procedural', 'mixed')),
        ('training', 'probe_trainable'): (Capability.PROBE, (True,)),
        ('training', 'intensity_scale_trainable'): (Capability.PROBE, (True,)),
        ('execution', 'precision'): (Capability.HALF_PRECISION, ('16-mixed', 'bf16-mixed')),
        ('execution', 'strategy'): (Capability.PROCESSES, ('ddp',)),
        ('execution', 'logger_backend'): (Capability.LOGGERS, ('tensorboard', 'mlflow')),
    }
)


class Request(NamedTuple):
    """A capability that a setting asks for, and the default of that setting, which asks for none."""

    capability: Capability
    setting: str
    value: Any
    default: Any


def list_requests(config: Config, *, training: bool) -> Iterator[Request]:
    """What a configuration asks of a backend that is to train, or without `training` only to apply a network."""
    default = Config()
    for (section, name), (capability, values) in ASKING.items():
        value, usual = (getattr(getattr(one, section), name) for one in (config, default))
        if value in values and (training or capability in OF_NETWORKS):
            yield Request(capability, f'{section}.{name}', value, usual)
