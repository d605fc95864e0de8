"""The residual of an object and a probe over a whole scan, on whatever device the engine runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays, map_shared
from ..prepare import PreparedScan
from ..residual import Residual, residual

LARGEST_BATCH = 64  # patterns: part of it is computed by the CPU, wherever the object is


def residuals(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64] | None = None,
    *,
    batch: int = LARGEST_BATCH,
    arrays: Arrays = NUMPY,
) -> Residual:
    """Normalized residual of a canvas (H, W) and a probe, per pattern in canonical order and overall."""
    return residuals_there(prepared, arrays.put(canvas), probe, batch=batch, arrays=arrays)


def residuals_there(
    prepared: PreparedScan,
    there: Array,
    probe: NDArray[np.complex64] | None = None,
    *,
    batch: int = LARGEST_BATCH,
    arrays: Arrays = NUMPY,
) -> Residual:
    """`residuals` of a canvas that is on the device already."""
    own = prepared.probe if probe is None else probe
    light = arrays.put(own)
    kernel = None if prepared.kernel is None else arrays.put(prepared.kernel)

    def compute(index: NDArray[np.int64]) -> Residual:
        patches = arrays.gather(there, prepared.layout.corners[index], prepared.n_pixels)
        varied = light if prepared.variation is None else arrays.put(prepared.variation.probes(own, index))
        diffracted = arrays.get(arrays.diffract(varied, patches, prepared.layout.fractions[index], kernel))
        return residual(prepared.detect(diffracted, index), prepared.counts(index), prepared.good)

    size = max(1, min(batch, arrays.block_pixels // own.size))
    return Residual.join(map_shared(compute, prepared.batches(size), arrays, Residual.join))
