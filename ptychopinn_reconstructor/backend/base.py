"""The base of a backend and of its trainings: what is the same whichever framework it is, and the hooks it fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ModelFileError
from .batches import steps_of, unpadded
from .common import Journal, StopRequested, check_logger, chosen_device
from .description import BackendDescription
from .interface import Network, TrainedModel, TrainingJob, Weights

Module = TypeVar('Module')


class Training(ABC, Generic[Module]):
    """One training of a `Module`, which holds network, probes and loss in the framework's own words.

    `device` is resolved; `monitor` is what the best epoch is chosen by; `best` and `last` are the checkpoints.
    Raises ModelFileError when there is no checkpoint to resume from.
    """

    suffix: ClassVar[str]
    """Of the checkpoints' names."""

    def __init__(self, job: TrainingJob, device: str) -> None:
        self.job, self.device = job, device
        self.best, self.last = (job.output_dir / 'checkpoints' / f'{name}{self.suffix}' for name in ('best', 'last'))
        if job.resume and not self.last.exists():
            raise ModelFileError(f'There is nothing to resume: {self.last} does not exist; leave out --resume.')
        self.steps = steps_of(job)
        self.held_out = self.steps.of_validation()
        self.monitor = job.config.training.checkpoint_monitor_metric if self.held_out else 'train_loss'
        self.journal = Journal(job)

    def run(self) -> TrainedModel:
        """Train; the weights returned are those of the best epoch, or as they stand where none was complete."""
        module, interrupted = self.new_module(), False
        self.last.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.fit(module)
        except StopRequested:
            interrupted = True
        complete = bool(self.journal.losses) and self.best.exists()  # a best epoch of an earlier run is not ours
        chosen = self.load(self.best) if complete else module
        weights, probes = self.weights_of(chosen), unpadded(self.probes_of(chosen), self.job)
        summary = self._summary(weights) if complete else {}
        return TrainedModel(weights, probes, tuple(self.journal.losses), summary, interrupted)

    def _summary(self, weights: Weights) -> dict[str, Any]:
        parameters = sum(values.size for values in weights.values())
        return self.journal.summary(device=self.device, monitor=self.monitor, parameters=parameters)

    @abstractmethod
    def new_module(self) -> Module:
        """The job's network with its initial weights, or drawn from the seed, and its probes."""

    @abstractmethod
    def fit(self, module: Module) -> None:
        """Train to the end by the framework's own loop, which tells the journal and saves `last` and `best`.

        Goes on from `last` where the job resumes. Raises StopRequested, which the journal does when asked to stop.
        """

    @abstractmethod
    def load(self, checkpoint: Path) -> Module:
        """The module of a checkpoint, on the CPU."""

    @abstractmethod
    def weights_of(self, module: Module) -> Weights:
        """Its network's weights in the neutral layout."""

    @abstractmethod
    def probes_of(self, module: Module) -> NDArray[np.complex64]:
        """Its probes as they have been trained, (scans, modes, N, N) in sqrt(counts)."""


class BackendBase(ABC):
    """A `Backend` but for what depends on the framework."""

    description: ClassVar[BackendDescription]
    stride: ClassVar[int] = 16
    """N must be a multiple of so many pixels."""
    gpu: ClassVar[str] = 'cuda'
    """The framework's word for a GPU in the names of devices."""

    @property
    def name(self) -> str:
        """That of the entry point."""
        return self.description.name

    @property
    def title(self) -> str:
        """The name in INI files and in the GUI."""
        return self.description.title

    def resolve_device(self, device: str) -> str:
        """The framework's name of `device`; 'auto' is the first GPU or the CPU. DeviceError names those there are."""
        return chosen_device(device, self.devices(), self.gpu)

    def check(self, config: Config) -> None:
        """ConfigError when the architecture is not offered, or the package of the chosen logger is not installed."""
        self.description.builder(config.model.architecture)
        check_logger(config)

    def versions(self) -> dict[str, str]:
        """Versions of the packages that the description names."""
        return {package: version(package) for package in self.description.requires}

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train on the device that the job asks for; the weights returned are those of the best epoch."""
        device = self.resolve_device(job.config.execution.device)
        self.check(job.config)
        with self.runtime(job.config, device):
            return self.training(job, device).run()

    @abstractmethod
    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' first."""

    @abstractmethod
    def fresh_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Freshly drawn weights in the neutral layout; the global random state is left as it was."""

    @abstractmethod
    def network(self, config: Config, weights: Weights, device: str) -> Network:
        """A network with these weights on `device`."""

    @abstractmethod
    def runtime(self, config: Config, device: str) -> AbstractContextManager[None]:
        """Threads and device of what runs inside, as the configuration asks for them."""

    @abstractmethod
    def training(self, job: TrainingJob, device: str) -> Training[Any]:
        """A training of the job on a resolved device."""
