"""What the engine asks of arrays, so that it is stated once and runs wherever they are: numpy here, a backend's device.

`Array` stands for a numpy array or for the tensor of an `Arrays` of a backend. Both have the operators, slices in
place, `real`, `imag`, `conj`, `sum(axis=)`, `max`, `clip(min=, max=)` and `reshape` under the same names and meanings;
what they lack in common is a method here. Types are complex64, float32 and bool, and float64 where numpy hands it in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from . import geometry
from .processes import ALONE, ROUND, Processes, own_blocks
from .threads import Threads

Block = TypeVar('Block')
Found = TypeVar('Found')
Array = Any  # a numpy array, or the tensor of a backend
Norm = Literal['backward', 'ortho']


def row_bands(shape: tuple[int, ...], pixels: int, least: int = 1) -> list[slice]:
    """Rows of an image (H, W) in even bands of about so many pixels, and of at least so many rows."""
    rows = max(least, pixels // max(shape[1], 1), 1)
    ends = np.linspace(0, shape[0], max(1, shape[0] // rows) + 1).round().astype(int).tolist()
    return [slice(begin, end) for begin, end in itertools.pairwise(ends)]


def sum_axis(values: Array, axis: int) -> Array:
    """The sum over an axis, which is only dropped where it has one entry: adding that up would copy it."""
    return values[(slice(None),) * axis + (0,)] if values.shape[axis] == 1 else values.sum(axis=axis)


class Arrays(Protocol):
    """Arrays on one device.

    `device` is its name for the user, `block_pixels` how many complex pixels of exit waves are worked on at a time,
    `processes` those that share the work on a scan.
    `xp` has numpy's `sqrt`, `minimum`, `maximum`, `where`, `zeros_like`, `stack`, `einsum` and `broadcast_to`.
    """

    device: str
    block_pixels: int
    processes: Processes
    xp: Any

    def put(self, values: NDArray[Any]) -> Array:
        """A numpy array on the device; it may share its memory, so that what is written to must be nobody else's."""

    def get(self, values: Array) -> NDArray[Any]:
        """An array of the device as numpy array, possibly sharing memory with it."""

    def double(self, values: Array) -> Array:
        """Real values in float64."""

    def fft2(self, values: Array, norm: Norm = 'backward') -> Array:
        """FFT over the last two axes; `values` is spent, since it may be written over."""

    def ifft2(self, values: Array, norm: Norm = 'backward') -> Array:
        """Inverse FFT over the last two axes; `values` is spent, since it may be written over."""

    def shift_ramp(self, fractions: NDArray[np.float64], n_pixels: int) -> Array:
        """exp(-2 pi i k f) with the zero frequency at [n//2, n//2]: (b, 2) pixels to (b, n, n)."""

    def gather(self, canvas: Array, corners: NDArray[np.int64], size: int) -> Array:
        """Windows of a canvas, (b, size, size), at corners (b, 2)."""

    def scatter(self, canvas: Array, patches: Array, corners: NDArray[np.int64]) -> None:
        """Add patches (b, n, n) to the canvas in place, each at its corner."""

    def diffract(
        self, probe: Array, patches: Array, fractions: NDArray[np.float64], kernel: Array | None = None
    ) -> Array:
        """Intensity (b, N, N) of object patches under the shifted probe: `forward.diffract`."""

    def square_sum(self, values: Array) -> float:
        """Sum of the squares of real values."""

    def map_blocks(self, compute: Callable[[Block], Found], blocks: Iterable[Block]) -> Iterator[Found]:
        """What `compute` finds of each block, in their order, several at a time where that is faster (`threads`)."""


class NumpyArrays:
    """numpy and scipy's FFT, in place where it can be, in blocks that stay in the cache: a megabyte

    `threads` work on as many blocks at a time; the results are the same for any number of them.
    """

    device = 'cpu'
    block_pixels = 65536
    xp: Any = np

    def __init__(self, threads: int = 1, processes: Processes = ALONE) -> None:
        self._threads, self.processes = Threads(threads), processes

    def put(self, values: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return values

    def get(self, values: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return values

    def double(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Real values in float64."""
        return values.astype(np.float64)

    def fft2(self, values: NDArray[Any], norm: Norm = 'backward') -> NDArray[Any]:
        """FFT over the last two axes, in place."""
        return np.asarray(fft.fft2(values, norm=norm, overwrite_x=True))

    def ifft2(self, values: NDArray[Any], norm: Norm = 'backward') -> NDArray[Any]:
        """Inverse FFT over the last two axes, in place."""
        return np.asarray(fft.ifft2(values, norm=norm, overwrite_x=True))

    def shift_ramp(self, fractions: NDArray[np.float64], n_pixels: int) -> NDArray[np.complex64]:
        """exp(-2 pi i k f) with the zero frequency at [n//2, n//2]: (b, 2) pixels to (b, n, n)."""
        return geometry.shift_ramp(fractions, n_pixels, centered=True)

    def gather(self, canvas: NDArray[Any], corners: NDArray[np.int64], size: int) -> NDArray[Any]:
        """Windows of a canvas, (b, size, size), at corners (b, 2)."""
        # Window by window: for windows of this size faster than an index into a sliding view.
        windows = np.empty((len(corners), size, size), dtype=canvas.dtype)
        for window, (row, col) in zip(windows, corners.tolist(), strict=True):
            window[:] = canvas[row : row + size, col : col + size]
        return windows

    def scatter(self, canvas: NDArray[Any], patches: NDArray[Any], corners: NDArray[np.int64]) -> None:
        """Add patches (b, n, n) to the canvas in place, each at its corner."""
        geometry.scatter_patches(canvas, patches, corners)

    def diffract(
        self,
        probe: NDArray[Any],
        patches: NDArray[Any],
        fractions: NDArray[np.float64],
        kernel: NDArray[Any] | None = None,
    ) -> NDArray[np.float32]:
        """Intensity (b, N, N) of object patches under the shifted probe."""
        spectrum = self.fft2(np.array(probe if probe.ndim == 4 else probe[None]))
        ramp = geometry.shift_ramp(fractions, probe.shape[-1])[:, None]
        exit_wave = self.ifft2(spectrum * ramp)
        exit_wave *= patches[:, None]
        wave = self.fft2(exit_wave, norm='ortho')
        if kernel is not None:
            wave *= kernel * ramp.conj()
            wave = self.ifft2(wave, norm='ortho')
        return np.asarray(fft.fftshift(sum_axis(wave.real**2 + wave.imag**2, 1), axes=(-2, -1)))

    def square_sum(self, values: NDArray[Any]) -> float:
        """Sum of the squares of real values."""
        return float(np.vdot(values, values))

    def map_blocks(self, compute: Callable[[Block], Found], blocks: Iterable[Block]) -> Iterator[Found]:
        """What `compute` finds of each block, in their order."""
        return self._threads.map(compute, blocks)


NUMPY: Arrays = NumpyArrays()


def map_shared(
    compute: Callable[[Block], Found],
    blocks: Iterable[Block],
    arrays: Arrays,
    join: Callable[[Iterable[Found]], Found] | None = None,
) -> Iterator[Found]:
    """What `compute` finds of each block, in their order, found by all processes of `arrays` together.

    It is handed from process to process, so that it must be no array of a device. Where several neighbors are as good
    as one after `join`, they may come as one.
    """
    processes = arrays.processes
    if processes.total == 1:
        yield from arrays.map_blocks(compute, blocks)
        return
    every, size = list(blocks), ROUND * processes.total
    for begin in range(0, len(every), size):
        found = [*arrays.map_blocks(compute, own_blocks(every[begin : begin + size], processes))]
        for part in processes.gather([join(found)] if join is not None and found else found):
            yield from part


def add_up(values: Array, arrays: Arrays) -> Array:
    """The sum of an array over the processes of `arrays`; on the CPU it takes the place of the array."""
    if arrays.processes.total == 1:
        return values
    numbers = arrays.get(values)
    arrays.processes.add_up(numbers)
    return arrays.put(numbers)
