"""TorchBackend: the Backend interface on PyTorch; only training imports Lightning, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainedModel, TrainingJob, Weights
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.recipe import check_logger, chosen_device

from .network import build_network
from .weights import load_neutral, to_neutral


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads inside, the process's own number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchNetwork:
    """A network on a device."""

    def __init__(self, config: Config, weights: Weights, device: str) -> None:
        self.device = torch.device(device)
        self.threads = config.execution.threads
        self.autocast = {'16-mixed': torch.float16, 'bf16-mixed': torch.bfloat16}.get(config.execution.precision)
        self.network = build_network(config)
        load_neutral(self.network, weights)
        self.network.to(self.device).eval()

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Object patches (b, n, n) from the network's input (b, N, N) and (b, 2, n, n)."""
        mixed = torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)
        with threads(self.threads), torch.inference_mode(), mixed:
            inputs = (torch.from_numpy(array).to(self.device) for array in (root4, backprojection))
            patches = torch.polar(*self.network(*inputs))
        return np.asarray(patches.cpu().numpy(), dtype=np.complex64)


class TorchBackend:
    """PyTorch with Lightning."""

    name = 'torch'
    title = 'PyTorch'
    stride = 16

    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' first."""
        found = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        return [*found, 'mps'] if torch.backends.mps.is_available() else found

    def resolve_device(self, device: str) -> str:
        """PyTorch's name of `device`; 'auto' is the first GPU or the CPU. DeviceError names those that are there."""
        return chosen_device(device, self.devices(), 'cuda')

    def check(self, config: Config) -> None:
        """ConfigError when the package of the chosen logger is not installed."""
        check_logger(config)

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages."""
        return {package: version(package) for package in ('torch', 'lightning')}

    def fresh_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Freshly drawn weights; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return to_neutral(build_network(config))

    def network(self, config: Config, weights: Weights, device: str) -> TorchNetwork:
        """A network with these weights on `device`."""
        return TorchNetwork(config, weights, self.resolve_device(device))

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train with Lightning; the weights returned are those of the best epoch."""
        from .training import train

        device = self.resolve_device(job.config.execution.device)
        with threads(job.config.execution.threads):
            self.check(job.config)
            return train(job, device)
