"""Waves at the detector and their derivatives by a slope of the missing phase; symbols are those of `wavefront`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..arrays import NUMPY, Array, Arrays, Found, map_shared, sum_axis
from ..prepare import PreparedScan, even_batches
from ..propagation import Propagator
from .detector import add_background, scale_beam
from .positions import displacement_gradient

ANSCOMBE = np.float32(3 / 8)  # counts


class Slopes(NamedTuple):
    """b (n, 2) and H (n, 2, 2) of the slopes g of n patterns in canonical order."""

    gradient: NDArray[np.float64]
    curvature: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SlopedWaves:
    """Of the patterns at `index` (b,): Psi `wave` (b, modes, N, N), its derivatives `sloped` (b, 2, modes, N, N) by g,
    `counts` and `predicted` intensities (b, N, N).
    """

    index: NDArray[np.int64]
    wave: Array
    sloped: Array
    counts: Array
    predicted: Array


OfBlock = Callable[[SlopedWaves, Array | None, Arrays], tuple[NDArray[np.float64], NDArray[np.float64]]]


def slopes(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64],
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> Slopes:
    """What each pattern says of the slope of the phase that a canvas (H, W) of `arrays` lacks.

    `probe` (modes, N, N) in sqrt(counts); `after_block` hears how many patterns are done.
    """
    return gather_slopes(prepared, canvas, probe, _phase_gradient, arrays, after_block)


def gather_slopes(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64],
    of_block: OfBlock,
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> Slopes:
    """b and H of all patterns, each block's by `of_block` of its waves and the good pixels (N, N), None for all."""
    found = Slopes(np.zeros((len(prepared), 2)), np.zeros((len(prepared), 2, 2)))
    good = None if prepared.good.all() else arrays.put(prepared.good)
    for index, of_these in map_sloped_waves(prepared, canvas, probe, lambda at: of_block(at, good, arrays), arrays):
        found.gradient[index], found.curvature[index] = of_these
        if after_block is not None:
            after_block(int(index[-1]) + 1)
    return found


def _phase_gradient(
    at: SlopedWaves, good: Array | None, arrays: Arrays
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counts, predicted = at.counts + ANSCOMBE, at.predicted + ANSCOMBE
    return displacement_gradient(at.wave, at.sloped, counts, predicted, good, arrays)


def map_sloped_waves(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64],
    of_block: Callable[[SlopedWaves], Found],
    arrays: Arrays = NUMPY,
) -> Iterator[tuple[NDArray[np.int64], Found]]:
    """What `of_block` makes of the waves at the detector of all patterns, in blocks, in order, for a canvas (H, W)."""
    side, near = probe.shape[-1], prepared.scan.fresnel_number
    # As in the engine: the spectrum of P (-1)^(x + y), whose far field has its zero frequency in the middle.
    unvaried = arrays.put(fft.fftshift(fft.fft2(probe), axes=(-2, -1)).astype(np.complex64))
    x = np.arange(side) - (side - 1) / 2
    ramps = arrays.put((1j * np.stack(np.meshgrid(x, x, indexing='ij'))).astype(np.complex64)[:, None])

    def compute(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], Found]:
        corners, fractions = prepared.layout.corners[index], prepared.layout.fractions[index]
        shift = arrays.shift_ramp(fractions, side)
        propagator = Propagator.for_patterns(near, shift, arrays)
        shift = scale_beam(prepared, index, shift, arrays)
        spectrum = unvaried
        if prepared.variation is not None:
            varied = prepared.variation.probes(probe, index)
            spectrum = arrays.put(fft.fftshift(fft.fft2(varied), axes=(-2, -1)).astype(np.complex64))
        exit_wave = arrays.ifft2(spectrum * shift[:, None])
        exit_wave *= arrays.gather(canvas, corners, side)[:, None]
        if near is None:
            sloped = propagator.forward(exit_wave[:, None] * ramps)
        wave = propagator.forward(exit_wave)
        if near is not None:  # a slope moves the pattern
            sloped = propagator.differentiate(wave, (-1 / (2 * np.pi * near[0]), -1 / (2 * np.pi * near[1])))
        predicted = add_background(prepared, sum_axis(wave.real**2 + wave.imag**2, 1), arrays)
        return index, of_block(SlopedWaves(index, wave, sloped, arrays.put(prepared.counts(index)), predicted))

    size = max(1, arrays.block_pixels // probe.size)
    return map_shared(compute, even_batches(np.arange(len(prepared), dtype=np.int64), size), arrays)


def measure_mean_square(found: Slopes) -> float:
    """Mean square of slopes in units of their counting noise, near 1 for noise alone; infinite where none tells any."""
    telling = np.linalg.det(found.curvature) > 0
    gradient = found.gradient[telling]
    squares = np.einsum('na,na->n', gradient, np.linalg.solve(found.curvature[telling], gradient[..., None])[..., 0])
    return 2 * float(squares.mean()) if telling.any() else math.inf
