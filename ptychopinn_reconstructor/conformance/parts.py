"""Which capability a check is about, and skipping it for a backend that leaves that out (B46)."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from ..backend import Capability, describe
from ..backend.capabilities import list_requests
from ..config import Config

Checks = TypeVar('Checks', bound=type[Any])
MARKER = 'needs_capability'
TRAINING, RESUMING = (
    pytest.mark.needs_capability(capability) for capability in (Capability.TRAINING, Capability.RESUMING)
)


def needs_training(checks: Checks) -> Checks:
    """Mark the checks of a class; marking the class would mark what its subclasses inherit from others too."""
    for name, check in vars(checks).items():
        if name.startswith('test_'):
            TRAINING(check)
    return checks


def skip_left_out(backend: str, capability: Capability) -> None:
    """Skip a check of what the backend of this name leaves out, with the reason."""
    described = describe(backend)
    if capability not in described.capabilities:
        pytest.skip(f'the {described.title} backend leaves out {capability}')


def skip_requests(backend: str, config: Config) -> None:
    """Skip a check whose configuration asks for what the backend of this name leaves out."""
    for request in list_requests(config, training=True):
        skip_left_out(backend, request.capability)
