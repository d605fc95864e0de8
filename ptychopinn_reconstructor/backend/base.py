"""Base classes of a backend and of its trainings, with the hooks that a framework fills in."""

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
from .batches import make_steps, split_probes
from .capabilities import Capability
from .common import Journal, StopRequested, check_logger, choose_device
from .description import BackendDescription
from .interface import Network, TrainedModel, TrainingJob, Weights
from .loading import check_capability

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
            raise ModelFileError(f'There is nothing to resume: {self.last} does not exist; leave out resume=True.')
        self.steps = make_steps(job)
        self.held_out = self.steps.list_validation_steps()
        self.monitor = job.config.training.checkpoint_monitor_metric if self.held_out else 'train_loss'
        self.journal = Journal(job)

    def run(self) -> TrainedModel:
        """Trained model with the weights of the best epoch, or the current ones if none is complete."""
        module, interrupted = self.build_module(), False
        self.last.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.fit(module)
        except StopRequested:
            interrupted = True
        complete = bool(self.journal.losses) and self.best.exists()  # a best epoch of an earlier run is not ours
        chosen = self.load(self.best) if complete else module
        weights, probes = self.export_weights(chosen), split_probes(self.export_probes(chosen), self.job)
        summary = self._summarize(weights) if complete else {}
        return TrainedModel(weights, probes, tuple(self.journal.losses), summary, interrupted)

    def _summarize(self, weights: Weights) -> dict[str, Any]:
        parameters = sum(values.size for values in weights.values())
        return self.journal.summary(device=self.device, monitor=self.monitor, parameters=parameters)

    @abstractmethod
    def build_module(self) -> Module:
        """Module with the job's network, its initial or randomly drawn weights, and its probes."""

    @abstractmethod
    def fit(self, module: Module) -> None:
        """Train to the end by the framework's own loop, which tells the journal and saves `last` and `best`.

        Goes on from `last` where the job resumes. Raises StopRequested, which the journal does when asked to stop.
        """

    @abstractmethod
    def load(self, checkpoint: Path) -> Module:
        """Module read from a checkpoint, on the CPU."""

    @abstractmethod
    def export_weights(self, module: Module) -> Weights:
        """Network weights in the neutral layout."""

    @abstractmethod
    def export_probes(self, module: Module) -> NDArray[np.complex64]:
        """Trained probes (scans, modes, N, N) in sqrt(counts)."""


class BackendBase(ABC):
    """The parts of a `Backend` that do not depend on the framework; this one applies networks and trains none."""

    description: ClassVar[BackendDescription]
    stride: ClassVar[int] = 16
    """N must be a multiple of so many pixels."""
    gpu: ClassVar[str] = 'cuda'
    """The framework's word for a GPU in the names of devices."""

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return self.description.name

    @property
    def title(self) -> str:
        """Name in INI files and in the GUI."""
        return self.description.title

    def resolve_device(self, device: str) -> str:
        """Framework's name of `device`; 'auto' is the first GPU or the CPU. DeviceError lists the available ones."""
        return choose_device(device, self.devices(), self.gpu)

    def check(self, config: Config) -> None:
        """Raise ConfigError if the architecture is not offered."""
        self.description.builder(config.model.architecture)

    def versions(self) -> dict[str, str]:
        """Versions of the packages named in the description."""
        return {package: version(package) for package in self.description.requires}

    def train(self, job: TrainingJob) -> TrainedModel:
        """Raise BackendError, which names those that train."""
        check_capability(self.description, Capability.TRAINING)
        raise NotImplementedError

    @abstractmethod
    def devices(self) -> list[str]:
        """Names of the available devices, 'cpu' first."""

    @abstractmethod
    def draw_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Randomly drawn weights in the neutral layout; the global random state is unchanged."""

    @abstractmethod
    def network(self, config: Config, weights: Weights, device: str) -> Network:
        """Network with these weights on `device`."""


class TrainingBackend(BackendBase):
    """A backend that trains as well."""

    def check(self, config: Config) -> None:
        """Raise ConfigError if the architecture is not offered or the chosen logger is not installed."""
        super().check(config)
        check_logger(config)

    def train(self, job: TrainingJob) -> TrainedModel:
        """Trained model with the weights of the best epoch, trained on the device of the job's configuration."""
        device = self.resolve_device(job.config.execution.device)
        self.check(job.config)
        with self.runtime(job.config, device):
            return self.training(job, device).run()

    @abstractmethod
    def runtime(self, config: Config, device: str) -> AbstractContextManager[None]:
        """Context in which threads and device are those of the configuration."""

    @abstractmethod
    def training(self, job: TrainingJob, device: str) -> Training[Any]:
        """Training of the job on a resolved device."""
