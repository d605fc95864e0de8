"""TorchBackend: the Backend interface on PyTorch; only training imports Lightning, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainingJob, Weights
from ptychopinn_reconstructor.backend.base import Training, TrainingBackend
from ptychopinn_reconstructor.backends.torch_lightning.arrays import HostArrays, TorchArrays
from ptychopinn_reconstructor.backends.torch_lightning.description import DESCRIPTION
from ptychopinn_reconstructor.backends.torch_lightning.prediction import TorchNetwork, limit_threads
from ptychopinn_reconstructor.backends.torch_lightning.processes import GlooProcesses, join_group
from ptychopinn_reconstructor.backends.torch_lightning.weights import load_neutral, to_neutral
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.arrays import Arrays


class TorchBackend(TrainingBackend):
    """PyTorch with Lightning."""

    description = DESCRIPTION

    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' first."""
        found = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        return [*found, 'mps'] if torch.backends.mps.is_available() else found

    def draw_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
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

    def arrays(self, device: str, threads: int = 1) -> Arrays:
        """Arrays for the refinement engine: tensors on a CUDA or ROCm GPU; elsewhere numpy's, with PyTorch's FFT."""
        where = self.resolve_device(device)
        return TorchArrays(where) if where.startswith('cuda') else HostArrays(threads)

    def join_processes(self, should_stop: Callable[[], bool]) -> AbstractContextManager[GlooProcesses]:
        """The processes that torchrun has started for one scan, connected inside."""
        return join_group(should_stop)

    def runtime(self, config: Config, device: str) -> AbstractContextManager[None]:
        """So many CPU threads inside."""
        return limit_threads(config.execution.threads or 1)

    def training(self, job: TrainingJob, device: str) -> Training[Any]:
        """A training with Lightning."""
        from ptychopinn_reconstructor.backends.torch_lightning.training import TorchTraining

        return TorchTraining(job, device)
