"""Arrays of the refinement engine (`Arrays`): tensors on a GPU, on a CPU numpy's with PyTorch's FFT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychopinn_reconstructor.backends.torch_lightning import physics
from ptychopinn_reconstructor.backends.torch_lightning.prediction import limit_threads
from ptychopinn_reconstructor.physics.arrays import Block, Found, NumpyArrays
from ptychopinn_reconstructor.physics.processes import ALONE

BLOCK_PIXELS = 2**22  # complex pixels of exit waves at a time: 32 MiB an array, about ten of them


class HostArrays(NumpyArrays):
    """numpy's arrays with PyTorch's FFT, which takes .2 to .8 of the time of scipy's: on x86 it is MKL's."""

    def fft2(self, values: NDArray[Any], norm: str = 'backward') -> NDArray[Any]:
        """FFT over the last two axes."""
        with limit_threads(1):
            spectrum: NDArray[Any] = torch.fft.fft2(torch.from_numpy(values), norm=norm).numpy()
        return spectrum

    def ifft2(self, values: NDArray[Any], norm: str = 'backward') -> NDArray[Any]:
        """Inverse FFT over the last two axes."""
        with limit_threads(1):
            image: NDArray[Any] = torch.fft.ifft2(torch.from_numpy(values), norm=norm).numpy()
        return image


class TorchArrays:
    """Tensors on `device`, complex64 and float32; whole batches at a time, up to `block_pixels`."""

    xp: Any = torch

    def __init__(self, device: str, block_pixels: int = BLOCK_PIXELS) -> None:
        self.device, self.processes = device, ALONE
        self.block_pixels = block_pixels

    def put(self, values: NDArray[Any]) -> Tensor:
        """A copy on the device."""
        return torch.tensor(values, device=self.device)

    def get(self, values: Tensor) -> NDArray[Any]:
        """A numpy array of the values, sharing memory where the device is the CPU."""
        array: NDArray[Any] = values.cpu().numpy()
        return array

    def double(self, values: Tensor) -> Tensor:
        """Real values in float64."""
        return values.double()

    def fft2(self, values: Tensor, norm: str = 'backward') -> Tensor:
        """FFT over the last two axes."""
        spectrum: Tensor = torch.fft.fft2(values, norm=norm)
        return spectrum

    def ifft2(self, values: Tensor, norm: str = 'backward') -> Tensor:
        """Inverse FFT over the last two axes."""
        image: Tensor = torch.fft.ifft2(values, norm=norm)
        return image

    def shift_ramp(self, fractions: NDArray[np.float64], n_pixels: int) -> Tensor:
        """exp(-2 pi i k f) with the zero frequency at [n//2, n//2]: (b, 2) pixels to (b, n, n)."""
        ramp: Tensor = torch.fft.fftshift(physics.shift_ramp(self._offsets(fractions), n_pixels), dim=(-2, -1))
        return ramp

    def gather(self, canvas: Tensor, corners: NDArray[np.int64], size: int) -> Tensor:
        """Windows of a canvas, (b, size, size), at corners (b, 2)."""
        return canvas.view(-1)[self._windows(canvas, corners, size)]

    def scatter(self, canvas: Tensor, patches: Tensor, corners: NDArray[np.int64]) -> None:
        """Add patches (b, n, n) to the canvas in place, each at its corner; on a GPU in no fixed order (rounding)."""
        index = self._windows(canvas, corners, patches.shape[-1])
        canvas.view(-1).index_add_(0, index.view(-1), patches.reshape(-1))

    def diffract(
        self, probe: Tensor, patches: Tensor, fractions: NDArray[np.float64], kernel: Tensor | None = None
    ) -> Tensor:
        """Intensity (b, N, N) of object patches under the shifted probe: one region of b patterns."""
        probe = probe if probe.ndim == 4 else probe[None]
        shifted = physics.shift_probe(probe[None], self._offsets(fractions)[None])
        if kernel is not None:
            kernel = (kernel * physics.shift_ramp(self._offsets(-fractions), probe.shape[-1]))[:, None]
        return physics.measure(physics.propagate(physics.illuminate(shifted, patches[None]), kernel))[0]

    def square_sum(self, values: Tensor) -> float:
        """Sum of the squares of real values."""
        flat = values.reshape(-1)
        return float(torch.dot(flat, flat))

    def map_blocks(self, compute: Callable[[Block], Found], blocks: Iterable[Block]) -> Iterator[Found]:
        """What `compute` finds of each block, one after the other: a block fills the device."""
        return map(compute, blocks)

    def _offsets(self, fractions: NDArray[np.float64]) -> Tensor:
        return self.put(fractions.astype(np.float32))

    def _windows(self, canvas: Tensor, corners: NDArray[np.int64], size: int) -> Tensor:
        return physics.window_index(self.put(corners), size, canvas.shape[-1])
