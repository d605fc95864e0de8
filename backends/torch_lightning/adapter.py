"""TorchBackend: the Backend interface on PyTorch; only training imports Lightning, which takes seconds."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainedModel, TrainingJob, Weights
from ptychopinn_reconstructor.backend.common import check_logger, chosen_device
from ptychopinn_reconstructor.backends.torch_lightning.arrays import TorchArrays
from ptychopinn_reconstructor.backends.torch_lightning.description import DESCRIPTION
from ptychopinn_reconstructor.backends.torch_lightning.prediction import TorchNetwork, threads
from ptychopinn_reconstructor.backends.torch_lightning.weights import load_neutral, to_neutral
from ptychopinn_reconstructor.config import Config


class TorchBackend:
    """PyTorch with Lightning."""

    name, title = DESCRIPTION.name, DESCRIPTION.title
    stride = 16

    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' first."""
        found = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        return [*found, 'mps'] if torch.backends.mps.is_available() else found

    def resolve_device(self, device: str) -> str:
        """PyTorch's name of `device`; 'auto' is the first GPU or the CPU. DeviceError names those that are there."""
        return chosen_device(device, self.devices(), 'cuda')

    def check(self, config: Config) -> None:
        """ConfigError when the architecture is none of ours, or the package of the chosen logger is not installed."""
        DESCRIPTION.builder(config.model.architecture)
        check_logger(config)

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages."""
        return {package: version(package) for package in ('torch', 'lightning')}

    def fresh_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Freshly drawn weights; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return to_neutral(DESCRIPTION.builder(config.model.architecture)(config))

    def network(self, config: Config, weights: Weights, device: str) -> TorchNetwork:
        """A network with these weights on `device`."""
        where = self.resolve_device(device)
        network = DESCRIPTION.builder(config.model.architecture)(config)
        load_neutral(network, weights)
        return TorchNetwork(network.to(where).eval(), config)

    def arrays(self, device: str) -> TorchArrays | None:
        """Arrays for the refinement engine on a CUDA or ROCm GPU; None elsewhere: on a CPU numpy is faster."""
        where = self.resolve_device(device)
        return TorchArrays(where) if where.startswith('cuda') else None

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train with Lightning; the weights returned are those of the best epoch."""
        from ptychopinn_reconstructor.backends.torch_lightning.training import train

        device = self.resolve_device(job.config.execution.device)
        with threads(job.config.execution.threads):
            self.check(job.config)
            return train(job, device)
