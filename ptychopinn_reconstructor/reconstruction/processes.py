"""Several processes for one scan, where torchrun has started them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from ..backend import ProcessBackend, load_backend
from ..errors import BackendError
from ..events import ShouldStop
from ..physics.processes import ALONE, Processes

LAUNCHER: Final = 'torch'  # the backend of torchrun, whatever computes the networks
STARTED, COUNT = 'TORCHELASTIC_RUN_ID', 'WORLD_SIZE'  # what torchrun tells each process


@contextmanager
def open_processes(should_stop: ShouldStop, variables: Mapping[str, str] = os.environ) -> Iterator[Processes]:
    """The processes that torchrun has started for one scan, connected inside; this one alone where it has started none.

    All must do the same with the same scan; the first one writes. `should_stop` is asked where they meet: one that is
    asked to stop ends all. BackendError where PyTorch is not installed.
    """
    if STARTED not in variables or variables.get(COUNT, '1') == '1':
        yield ALONE
        return
    backend = load_backend(LAUNCHER)
    if not isinstance(backend, ProcessBackend):
        raise BackendError(f'The {backend.title} backend connects no processes; start one, without torchrun.')
    with backend.join_processes(should_stop) as processes:
        yield processes
