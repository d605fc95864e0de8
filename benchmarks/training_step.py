"""A training step as the backends take it: the whole in any of them, and the parts of PyTorch's one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timing import Reference, Timed, cpu, gigaflops, middle

from ptychopinn_reconstructor.backend import TrainingJob, load_backend
from ptychopinn_reconstructor.backend.batches import Steps
from ptychopinn_reconstructor.backends.torch_lightning.data import EpochSteps, StepData, make_loader
from ptychopinn_reconstructor.backends.torch_lightning.module import Batch, PtychoPINN
from ptychopinn_reconstructor.backends.torch_lightning.training import build_module, make_trainer, silence_lightning
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.events import Epoch, Event, Progress
from ptychopinn_reconstructor.physics.grouping import Split
from ptychopinn_reconstructor.physics.prepare import PreparedScan

SKIPPED = 3  # first steps, in which memory is allocated, kernels are chosen and graphs are traced


class StepTimes:
    """Listens to a training: CPU time from the end of a step to that of the next, and the reference in between.

    The process's time counts what other threads prepare meanwhile, the reference's own is that of this thread.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.steps: list[float] = []
        self.units: list[float] = []
        self.last: float | None = None
        self.spent = 0.0

    def __call__(self, event: Event) -> None:
        """Note the time since the last step, then time the reference; nothing across an epoch's end."""
        now = time.process_time()
        if isinstance(event, Epoch):
            self.last = None
        elif isinstance(event, Progress):
            if self.last is not None:
                self.steps.append(now - self.last - self.spent)
                self.units.append(self.spent / self.reference.units)
            start = time.thread_time()
            self.reference.run()
            self.last, self.spent = now, time.thread_time() - start


def job_of(scan: PreparedScan, folder: Path) -> TrainingJob:
    """Two epochs with the default settings, nothing held out."""
    everything = np.arange(len(scan), dtype=np.int64)
    config = Config().merged(
        {'model': {'N': scan.n_pixels}, 'training': {'nepochs': 2}, 'execution': {'device': 'cpu'}}
    )
    return TrainingJob((scan,), (Split(everything, everything[:0]),), config, folder)


def patterns_of_step(job: TrainingJob) -> int:
    """R K."""
    steps = Steps(job)
    return steps.r * steps.k


def whole_step(name: str, job: TrainingJob, reference: Reference) -> Timed:
    """The median step of a training by the backend `name`, as `ptychopinn train` calls it."""
    times = StepTimes(reference)
    load_backend(name).train(replace(job, output_dir=job.output_dir / name, emit=times))
    return middle(times.steps[SKIPPED:], times.units[SKIPPED:])


class Parts:
    """One step of the PyTorch backend taken apart: each method leaves what the next one needs."""

    def __init__(self, job: TrainingJob) -> None:
        with silence_lightning():
            trainer = make_trainer(job, 'cpu', [])
            trainer.limit_train_batches = 2  # enough to have an optimizer with all that it keeps
            trainer.fit(build_module(job), make_loader(Steps(job), EpochSteps(Steps(job))))
        module = trainer.lightning_module
        assert isinstance(module, PtychoPINN)
        self.module, self.optimizer = module.train(), trainer.optimizers[0]
        self.clip = job.config.training.gradient_clip_val
        self.dataset, self.step = StepData(Steps(job)), Steps(job).draw_epoch(0)[0]
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

    def gigaflops(self) -> float:
        """GFLOP of the network in a step."""
        return gigaflops(lambda: [part() for part in self.steps().values()])

    def timed(self, reference: Reference, *, repeats: int) -> dict[str, Timed]:
        """Median CPU time of each part, the reference timed in every round."""
        steps = self.steps()
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        units = []
        for _ in range(repeats):
            units.append(cpu(reference.run) / reference.units)
            for name, part in steps.items():
                seconds[name].append(cpu(part))
        return {name: middle(times, units) for name, times in seconds.items()}
