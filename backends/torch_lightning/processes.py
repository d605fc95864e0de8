"""The processes that torchrun has started, as one group that works on a scan: gloo between the memories of the CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from ptychopinn_reconstructor.backends.torch_lightning.together import tell_loss
from ptychopinn_reconstructor.errors import Interrupted, PtychoPINNError
from ptychopinn_reconstructor.physics.arrays import Found


class GlooProcesses:
    """The group of torch.distributed that this process is in, as `Processes`."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.number, self.total = distributed.get_rank(), distributed.get_world_size()
        self._should_stop = should_stop

    def gather(self, found: Found) -> list[Found]:
        """What each process has found, in their order; Interrupted, in all of them, where one was asked to stop."""
        told: list[Any] = [None] * self.total
        with end_if_alone():
            distributed.all_gather_object(told, (self._should_stop(), found))
        if any(asked for asked, _ in told):
            raise Interrupted('Stopped before the object was complete; nothing is written.')
        return [cast('Found', one) for _, one in told]

    def add_up(self, values: NDArray[Any]) -> None:
        """Replace numbers by their sum over the processes."""
        numbers = np.ascontiguousarray(values)
        tensor = torch.from_numpy(numbers)
        with end_if_alone():
            distributed.all_reduce(torch.view_as_real(tensor) if tensor.is_complex() else tensor)
        if numbers is not values:
            values[...] = numbers


@contextmanager
def join_group(should_stop: Callable[[], bool]) -> Iterator[GlooProcesses]:
    """The group of the processes that torchrun has started, connected inside."""
    with end_if_alone():
        distributed.init_process_group('gloo')
    try:
        yield GlooProcesses(should_stop)
    finally:
        distributed.destroy_process_group()


def end_if_alone() -> AbstractContextManager[None]:
    """A block that needs the other processes: the loss of one is told in a sentence; PtychoPINNError."""
    lost = PtychoPINNError(
        'Another process of the reconstruction has ended, so that this one cannot go on; nothing is written: start all '
        'of them again.'
    )
    return tell_loss(lost)
