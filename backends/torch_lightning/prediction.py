"""A network that predicts: arrays in, arrays out, whether it was read from a model file or is in training."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ptychopinn_reconstructor.backends.torch_lightning import physics
from ptychopinn_reconstructor.config import Config


class ThreadLimit:
    """PyTorch's number of CPU threads, which is the process's: the first who asks sets it, the last gives it back."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 0

    @contextmanager
    def __call__(self, count: int) -> Iterator[None]:
        """So many CPU threads inside, the process's own number afterwards."""
        with self._lock:
            if not self._inside:
                self._before = torch.get_num_threads()
                torch.set_num_threads(count)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    torch.set_num_threads(self._before)


limit_threads = ThreadLimit()


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
