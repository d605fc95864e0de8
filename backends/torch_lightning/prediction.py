"""A network that predicts: arrays in, arrays out, whether it was read from a model file or is in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ptychopinn_reconstructor.backends.torch_lightning import physics
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.threads import ProcessLimit


def _limit_pytorch(count: int) -> Callable[[], object]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return lambda: torch.set_num_threads(before)


limit_threads = ProcessLimit(_limit_pytorch)  # PyTorch's threads on the CPU


class TorchNetwork:
    """A network on the device where it is; it is not copied, and whoever trains it sets its mode."""

    def __init__(self, network: nn.Module, config: Config) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self.sigma = config.model.gaussian_smoothing_sigma
        self.autocast = {'16-mixed': torch.float16, 'bf16-mixed': torch.bfloat16}.get(config.execution.precision)

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Object patches (b, n, n) from the network's input (b, N, N) and (b, 2, n, n)."""
        mixed = torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)
        with limit_threads(1), torch.inference_mode(), mixed:
            inputs = (torch.from_numpy(array).to(self.device) for array in (root4, backprojection))
            patches = physics.smooth_patches(torch.polar(*self.network(*inputs)), self.sigma)
        return np.asarray(patches.cpu().numpy(), dtype=np.complex64)
