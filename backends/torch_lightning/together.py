"""What several processes that train one network together agree on before each step: CPU time, and whether to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import distributed

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backend.common import CpuClock
from ptychopinn_reconstructor.errors import PtychoPINNError, TrainingError


class AgreedClock(CpuClock):
    """Clock of the CPU seconds of all processes, as they were when last asked for: the same number in each."""

    def resume_from(self, seconds: float) -> None:
        """Restart the clock at the CPU seconds that were spent before a resume."""
        super().resume_from(seconds)
        self.agreed = seconds

    def own_seconds(self) -> float:
        """CPU seconds of this process since the start."""
        return time.process_time() - self.start

    def seconds(self) -> float:
        """CPU seconds spent in training by all processes."""
        return self.agreed


class Together:
    """The part of this process in a step, its clock and its request to stop, brought together with the others'."""

    def __init__(self, job: TrainingJob) -> None:
        self.rank, self.ranks = job.rank, job.ranks
        self._asked, self._stopped = job.should_stop, False
        self.clock = AgreedClock(job.cpu_seconds)
        self.job = replace(job, should_stop=lambda: self._stopped)
        self._group: distributed.ProcessGroup | None = None
        self._on_sigterm = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def begin(self) -> None:
        """Open the line between the processes: beside that of the gradients, which on GPUs would wait for them.

        SIGTERM asks for a stop as it did before: Lightning's own handler tells the others at once, in the middle of
        whatever this process and they are telling each other, and all wait for ever.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        self._group = distributed.new_group(backend='gloo')

    def agree(self, regions: int) -> int:
        """Regions of a step over all processes, of which this one has so many; sets the clock and decides on a stop."""
        before = 0.0 if self.rank else self.clock.before
        told = torch.tensor([before + self.clock.own_seconds(), float(self._asked()), regions], dtype=torch.float64)
        distributed.all_reduce(told, group=self._group)
        self.clock.agreed, self._stopped = float(told[0]), bool(told[1])
        return int(told[2])


@contextmanager
def end_with_others() -> Iterator[None]:
    """A block of a training of several processes: the loss of one is told in a sentence; TrainingError."""
    lost = TrainingError(
        'Another process of the training has ended, so that this one cannot go on; the last checkpoint is kept: '
        'start all of them again with resume=True.'
    )
    try:
        with tell_loss(lost):
            yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def tell_loss(lost: PtychoPINNError) -> Iterator[None]:
    """A block that needs the other processes; raises `lost` where the line to one of them breaks."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise lost from error


def _is_lost(error: RuntimeError) -> bool:
    """Whether the line to another process broke; gloo has no type of its own for that."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or 'gloo' in text or 'connection' in text
