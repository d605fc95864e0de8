"""Slopes of the phase in the near field: every tile of a pattern is a lenslet of its own.

A far field has one slope for each pattern. In the near field light stays about where it left the object, so that the
slope g(x) of the missing phase moves each part of the pattern by itself, by g / (2 pi F) pixels, as in speckle
tracking: the derivative of the amplitude by g is that of the whole pattern's motion, and summed over a tile it tells
the slope there. A tile must be wider than light spreads on its way; what has spread over the edge of the pattern is
left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..arrays import NUMPY, Array, Arrays
from ..geometry import Layout
from ..prepare import PreparedScan
from .positions import DARKEST
from .sloped_waves import ANSCOMBE, SlopedWaves, Slopes, map_sloped_waves

SMALLEST_TILE = 8  # pixels
MOST_TILES = 96  # along one side of the canvas, so that what is solved for stays small
SPREADS, MARGIN = 4.0, 2.0  # rms spreads of the light, that a tile is wide, and the edge that is left out


class TileSlopes(NamedTuple):
    """Slopes of the tiles of all patterns, tile by tile, where they lie on the canvas, and what each sees (1, t, t)."""

    layout: Layout
    slopes: Slopes
    window: NDArray[np.complex64]


def spread_of_light(prepared: PreparedScan, probe: NDArray[np.complex64]) -> float:
    """How far light of a probe (modes, N, N) goes on its way to the detector, rms in pixels, along the wider axis."""
    assert prepared.scan.fresnel_number is not None
    power = (np.abs(fft.fft2(probe)) ** 2).sum(axis=0)
    marginals = (power.sum(axis=1 - axis) / power.sum() for axis in (0, 1))
    k = fft.fftfreq(probe.shape[-1])
    return float(
        max(np.sqrt(part @ k**2) / number for part, number in zip(marginals, prepared.scan.fresnel_number, strict=True))
    )


def tile_size(prepared: PreparedScan, probe: NDArray[np.complex64]) -> int:
    """Side t of a tile in pixels, a divisor of N."""
    side = prepared.n_pixels
    wanted = SPREADS * spread_of_light(prepared, probe), SMALLEST_TILE, max(prepared.layout.shape) / MOST_TILES
    least = min(side, max(wanted))
    return min(size for size in range(1, side + 1) if side % size == 0 and size >= least)


def tile_slopes(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64],
    size: int,
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> TileSlopes:
    """What each tile of `size` pixels of each pattern says of the slope of the phase that a canvas (H, W) lacks.

    `probe` (modes, N, N) in sqrt(counts); `after_block` hears how many patterns are done.
    """
    side, total = prepared.n_pixels, len(prepared)
    count = side // size
    gradient, curvature = np.zeros((total, count, count, 2)), np.zeros((total, count, count, 2, 2))
    xp, good = arrays.xp, arrays.put(_without_edge(prepared, probe))

    def of_block(at: SlopedWaves) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        amplitude = xp.sqrt((at.predicted + ANSCOMBE).clip(min=DARKEST))
        slope = (at.wave.conj()[:, None] * at.sloped).real.sum(axis=2) / amplitude[:, None] * good
        excess = xp.sqrt(at.counts + ANSCOMBE) - amplitude
        tiled = slope.reshape(len(at.index), 2, count, size, count, size)
        lacking = excess.reshape(len(at.index), count, size, count, size)
        products = xp.einsum('narxcy,nrxcy->nrca', tiled, lacking), xp.einsum('narxcy,nbrxcy->nrcab', tiled, tiled)
        return arrays.get(products[0]), arrays.get(products[1])

    for index, (score, information) in map_sloped_waves(prepared, canvas, probe, of_block, arrays):
        gradient[index], curvature[index] = score, information
        if after_block is not None:
            after_block(int(index[-1]) + 1)
    inset = size * np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing='ij'), axis=-1).reshape(-1, 1, 2)
    laid = prepared.layout
    corners = (laid.corners + inset).reshape(-1, 2)
    layout = Layout(corners, np.tile(laid.fractions, (count**2, 1)), laid.origin, laid.shape)
    # Tile by tile, so that halves of neighboring entries are halves of the patterns.
    found = Slopes(
        np.moveaxis(gradient.reshape(total, -1, 2), 1, 0).reshape(-1, 2),
        np.moveaxis(curvature.reshape(total, -1, 2, 2), 1, 0).reshape(-1, 2, 2),
    )
    return TileSlopes(layout, found, np.ones((1, size, size), np.complex64))


def _without_edge(prepared: PreparedScan, probe: NDArray[np.complex64]) -> NDArray[np.float32]:
    """1 on good pixels (N, N) that no light has reached over the edge of the pattern, else 0."""
    margin = min(int(np.ceil(MARGIN * spread_of_light(prepared, probe))), prepared.n_pixels // 4)
    inside = np.zeros(prepared.good.shape, dtype=np.float32)
    inside[margin:-margin, margin:-margin] = 1
    return inside * prepared.good
