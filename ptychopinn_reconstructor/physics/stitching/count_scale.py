"""The amplitude that a stitched object owes to the counts: a closed form, nothing learned.

A network is trained on canvases of a few patches, whose noise carries part of the counts; averaging all patches removes
that noise, and with it amplitude: 1 to 4 %, the more the fewer the photons. Predicted and measured counts give it back:
intensities scale with the square of the object, so the factor is sqrt(sum I / sum I_pred), of maximum likelihood.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays, map_shared
from ..prepare import PreparedScan, even_batches

PATTERNS = 512  # evenly spaced in canonical order: enough for 0.3 % at 1,000 photons a pattern
LARGEST_CHANGE = 0.1  # beyond it the probe's power is wrong, or the network, and neither may be hidden
BATCH = 64


def count_gauge(
    prepared: PreparedScan, canvas: Array, probe: NDArray[np.complex64] | None = None, arrays: Arrays = NUMPY
) -> float:
    """The factor sqrt(sum I / sum I_pred) on a canvas (H, W), over good pixels of up to 512 patterns, less background.

    `probe` (modes, N, N) in sqrt(counts) replaces the scan's; the canvas is of `arrays`.
    """
    given = prepared.probe if probe is None else probe
    light = arrays.put(given)
    kernel = None if prepared.kernel is None else arrays.put(prepared.kernel)
    good, background = prepared.good, prepared.background
    dark = 0.0 if background is None else float(background[good].sum())

    def compute(part: NDArray[np.int64]) -> tuple[float, float]:
        windows = arrays.gather(canvas, prepared.layout.corners[part], prepared.n_pixels)
        varied = light if prepared.variation is None else arrays.put(prepared.variation.probes(given, part))
        intensity = arrays.get(arrays.diffract(varied, windows, prepared.layout.fractions[part], kernel))
        expected = prepared.detect(intensity, part)[:, good]
        sums = expected.sum(dtype=np.float64), prepared.counts(part).sum(dtype=np.float64)
        return float(sums[0]) - len(part) * dark, float(sums[1]) - len(part) * dark

    index = np.unique(np.linspace(0, len(prepared) - 1, PATTERNS).astype(np.int64))
    predicted, measured = np.sum([*map_shared(compute, even_batches(index, BATCH), arrays)], axis=0)
    return float(np.sqrt(max(measured, 0.0) / max(predicted, 1e-12)))
