"""A training step as the backend takes it: the whole under Lightning's Trainer, then its parts one by one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from timing import Reference, Timed, cpu

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backends.torch_lightning.callbacks import Watch
from ptychopinn_reconstructor.backends.torch_lightning.data import EpochSteps, StepData, loader
from ptychopinn_reconstructor.backends.torch_lightning.module import Batch, PtychoPINN
from ptychopinn_reconstructor.backends.torch_lightning.training import make_trainer, new_module, quiet_lightning
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.grouping import Split
from ptychopinn_reconstructor.physics.prepare import PreparedScan
from ptychopinn_reconstructor.steps import Steps

SKIPPED = 3  # first steps, in which memory is allocated and kernels are chosen


class StepTimes(pl.Callback):
    """CPU time from the end of one step to the end of the next, data included, and the reference in between."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.steps: list[float] = []
        self.units: list[float] = []
        self.last: float | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time since the last step, then time the reference."""
        if self.last is not None and batch_idx:  # not across an epoch's end
            self.steps.append(time.process_time() - self.last)
            self.units.append(cpu(self.reference.run) / self.reference.units)
        self.last = time.process_time()


def whole_step(scan: PreparedScan, folder: Path, reference: Reference) -> tuple[pl.Trainer, TrainingJob, Timed, int]:
    """Train two epochs with the default settings; the median step, and the patterns in it."""
    everything = np.arange(len(scan), dtype=np.int64)
    config = Config().merged({'model': {'N': scan.n_pixels}, 'training': {'nepochs': 2}})
    job = TrainingJob((scan,), (Split(everything, everything[:0]),), config, folder)
    times, steps = StepTimes(reference), Steps(job)
    with quiet_lightning():
        trainer = make_trainer(job, 'cpu', [Watch(job), times])
        trainer.fit(new_module(job), loader(job, EpochSteps(steps)))
    seconds, units = times.steps[SKIPPED:], times.units[SKIPPED:]
    ratio = statistics.median(s / u for s, u in zip(seconds, units, strict=True))
    timed = Timed(statistics.median(seconds), ratio, statistics.median(units))
    return trainer, job, timed, steps.r * steps.k


class Parts:
    """One step taken apart: each method leaves what the next one needs."""

    def __init__(self, trainer: pl.Trainer, job: TrainingJob) -> None:
        module = trainer.lightning_module
        assert isinstance(module, PtychoPINN)
        self.module, self.optimizer = module.train(), trainer.optimizers[0]
        self.clip = job.config.training.gradient_clip_val
        self.dataset, self.step = StepData(job.scans, supervised=False), Steps(job).of_epoch(0)[0]
        self.batch: Batch = self.dataset[self.step]

    def data(self) -> None:
        """Read and scale."""
        self.batch = self.dataset[self.step]

    def network_forward(self) -> None:
        """From input to amplitude and phase; cut off there, so that both backward passes can be told apart."""
        self.output = self.module.network(self.batch.root4, self.batch.backprojection)
        self.leaves = [part.detach().requires_grad_() for part in self.output]

    def physics_forward(self) -> None:
        """From amplitude and phase to the loss."""
        probes = self.module.current_probes()[self.batch.scan]
        self.loss = self.module._likelihood(torch.polar(*self.leaves), self.batch, probes[:, None])

    def physics_backward(self) -> None:
        """From the loss to amplitude and phase."""
        self.gradients = torch.autograd.grad(self.loss, self.leaves)

    def network_backward(self) -> None:
        """From amplitude and phase to the weights."""
        torch.autograd.backward(self.output, self.gradients)

    def optimize(self) -> None:
        """Clip the gradient and step."""
        torch.nn.utils.clip_grad_norm_(self.module.network.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def steps(self) -> dict[str, Callable[[], None]]:
        """All parts in order."""
        return {
            'data': self.data,
            'network forward': self.network_forward,
            'physics forward': self.physics_forward,
            'physics backward': self.physics_backward,
            'network backward': self.network_backward,
            'clipping and optimizer': self.optimize,
        }


def parts_of_step(
    trainer: pl.Trainer, job: TrainingJob, reference: Reference, *, repeats: int
) -> tuple[dict[str, Timed], float]:
    """Median CPU time of each part, the reference timed in every round, and the GFLOP of the network in a step."""
    from kernels import gigaflops

    steps = Parts(trainer, job).steps()
    work = gigaflops(lambda: [part() for part in steps.values()])
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    units = []
    for _ in range(repeats):
        units.append(cpu(reference.run) / reference.units)
        for name, part in steps.items():
            seconds[name].append(cpu(part))
    unit = statistics.median(units)
    return {name: _timed(times, units, unit) for name, times in seconds.items()}, work


def _timed(seconds: list[float], units: list[float], unit: float) -> Timed:
    ratio = statistics.median(s / u for s, u in zip(seconds, units, strict=True))
    return Timed(statistics.median(seconds), ratio, unit)
