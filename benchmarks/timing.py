"""How the benchmarks time: CPU time of this process, medians, and every figure beside a reference measured in turn.

A figure in seconds is that of a machine and of its load at the moment; its ratio to a reference that was measured
between its own repeats compares with ratios from elsewhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

GEMM_SIDE = 768
BLOCK_PIXELS = 65_536  # complex pixels of a block of FFTs: half a megabyte, what the package itself works on at a time
Work = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One line of RESULTS.md: a figure, its ratio to a reference, and what that is."""

    what: str
    value: str
    ratio: str = ''
    to: str = ''

    def to_json(self) -> dict[str, str]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Reference:
    """Work to compare with: a call does `units` units."""

    name: str
    run: Work
    units: float


@dataclass(frozen=True)
class Timed:
    """Median CPU seconds of a call, and the median of its ratio to one unit of the reference."""

    seconds: float
    ratio: float
    unit_seconds: float


def cpu(work: Work) -> float:
    """CPU seconds, user and system, of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def middle(seconds: Sequence[float], units: Sequence[float]) -> Timed:
    """Medians of repeats, each with the time of a unit of the reference beside it."""
    ratio = statistics.median(s / u for s, u in zip(seconds, units, strict=True))
    return Timed(statistics.median(seconds), ratio, statistics.median(units))


def paired(work: Work, reference: Reference, *, repeats: int = 9, calls: int = 1) -> Timed:
    """Time `calls` calls and the reference in turn, after one call each to warm up."""
    work(), reference.run()
    seconds, units = [], []
    for _ in range(repeats):
        units.append(cpu(reference.run) / reference.units)
        seconds.append(sum(cpu(work) for _ in range(calls)) / calls)
    return middle(seconds, units)


def fft2_reference(n: int, *, calls: int = 4) -> Reference:
    """One scipy.fft.fft2 of n x n complex64 pixels, in blocks of 65,536 pixels."""
    from scipy import fft

    rng = np.random.default_rng(0)
    block = rng.standard_normal((BLOCK_PIXELS // n**2, n, n, 2)).astype(np.float32).view(np.complex64)[..., 0]

    def run() -> None:
        for _ in range(calls):
            fft.fft2(block)

    return Reference(f'FFT2 of {n} x {n}', run, calls * len(block))


def fft2_pair_reference(n: int) -> Reference:
    """One FFT2 and its inverse."""
    from scipy import fft

    forward = fft2_reference(n)
    rng = np.random.default_rng(0)
    block = rng.standard_normal((BLOCK_PIXELS // n**2, n, n, 2)).astype(np.float32).view(np.complex64)[..., 0]

    def run() -> None:
        for _ in range(4):
            fft.ifft2(fft.fft2(block))

    return Reference(f'FFT2 pair of {n} x {n}', run, forward.units)


def gemm_reference() -> Reference:
    """Multiplying float32 matrices of 768 x 768 by PyTorch; a unit is 1 GFLOP."""
    import torch

    a, b = torch.rand(2, GEMM_SIDE, GEMM_SIDE, generator=torch.Generator().manual_seed(0))
    return Reference('PyTorch GEMM', lambda: torch.mm(a, b), 2e-9 * GEMM_SIDE**3)


def rate_row(what: str, timed: Timed, patterns: int, gigaflop: float) -> Row:
    """Time per pattern; the rate reached, relative to GEMM."""
    achieved = gigaflop / timed.seconds
    value = f'{timed.seconds / patterns * 1e3:.3f} ms/pattern'
    return Row(what, value, f'{gigaflop / timed.ratio:.2f}', f'rate of PyTorch GEMM, at {achieved:.1f} GFLOP/s')


def per_pattern_row(what: str, timed: Timed, patterns: int, unit: str) -> Row:
    """Time per pattern and in units of a reference."""
    return Row(what, f'{timed.seconds / patterns * 1e3:.3f} ms/pattern', f'{timed.ratio / patterns:.1f}', unit)


def gigaflops(work: Callable[[], Any]) -> float:
    """GFLOP of the convolutions of a call, counted by PyTorch from the shapes of the layers."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return counter.get_total_flops() * 1e-9
