"""The residual of an object and a probe over a whole scan, on whatever device the engine runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays
from ..prepare import PreparedScan, even_batches
from ..residual import Residual, residual


def residuals(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64] | None = None,
    *,
    batch: int = 64,
    arrays: Arrays = NUMPY,
) -> Residual:
    """Normalized residual of a canvas (H, W) and a probe, per pattern in canonical order and overall."""
    return residuals_there(prepared, arrays.put(canvas), probe, batch=batch, arrays=arrays)


def residuals_there(
    prepared: PreparedScan,
    there: Array,
    probe: NDArray[np.complex64] | None = None,
    *,
    batch: int = 64,
    arrays: Arrays = NUMPY,
) -> Residual:
    """`residuals` of a canvas that is on the device already."""
    light = arrays.put(prepared.probe if probe is None else probe)
    kernel = None if prepared.kernel is None else arrays.put(prepared.kernel)
    parts = []
    for index in even_batches(np.arange(len(prepared), dtype=np.int64), batch):
        patches = arrays.gather(there, prepared.layout.corners[index], prepared.n_pixels)
        if prepared.variation is not None:
            light = arrays.put(prepared.variation.probes(prepared.probe if probe is None else probe, index))
        diffracted = arrays.get(arrays.diffract(light, patches, prepared.layout.fractions[index], kernel))
        parts.append(residual(prepared.detect(diffracted, index), prepared.counts(index), prepared.good))
    return Residual.join(parts)
