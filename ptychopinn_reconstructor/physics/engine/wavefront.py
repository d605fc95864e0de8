"""The long-range phase that an object owes to its patterns, in closed form: each is a lenslet of a wavefront sensor.

A phase that varies slowly over an object hardly changes any one pattern: it only moves it on the detector, by the
slope that the phase has where the pattern was taken. Patches that are synchronized by their overlaps, and passes that
correct one batch after the other, let small errors add up from neighbor to neighbor. The patterns do not: as in a
Shack-Hartmann sensor, their slopes taken together are the wavefront. In the near field each pattern is many lenslets
(`local_slopes`).

| symbol   | meaning                                                                            | unit              |
|----------|------------------------------------------------------------------------------------|-------------------|
| g        | slope of the missing phase where a pattern was taken, [row, col]                   | radians per pixel |
| A        | sqrt(I + 3/8), Anscombe's amplitude: its noise is even, and where it is dark smooth | sqrt(counts)      |
| J        | dA_pred / dg                                                                       | sqrt(counts) pixel|
| b, H     | sum J (A - A_pred) and sum J J^T, over the good pixels (`positions.motion`)         | counts pixel, ^2  |
| D        | diameter of the circle that holds 90 % of the probe's energy                       | pixels            |
| phi      | missing phase: a plane, and cubic B-splines with knots every D pixels, weights w   | radians           |
| S        | slope of each spline as each pattern sees it, weighted by abs(P)^2                 | 1 / pixel         |
| R        | bending energy of the splines: squared second differences of their weights         | 1                 |

The plane is the common slope of all patterns. The rest is the maximum a posteriori w = (S^T H S + l R)^-1 S^T b, times
a gain. Two interleaved halves of the patterns choose both: l is the one with which the phase of either half explains
most of the other, and the gain follows from the share of it that they agree on, so that neither noise nor what patterns
do not have in common is taken for a phase.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays, map_shared
from ..geometry import Layout
from ..illumination import illumination
from ..prepare import PreparedScan
from ..scoring.halves import split_interleaved
from ..stitching.stitch import EPSILON_WEIGHT, probe_weight
from .local_slopes import tile_size, tile_slopes
from .sloped_waves import Slopes, slopes
from .splines import Splines, supported_weights

FEWEST = 16  # patterns; fewer are no wavefront


def correct_long_range_phase(
    prepared: PreparedScan,
    canvas: Array,
    probe: NDArray[np.complex64] | None = None,
    *,
    light: NDArray[np.float32] | None = None,
    arrays: Arrays = NUMPY,
    after_block: Callable[[int], None] | None = None,
) -> Array:
    """A canvas (H, W) of `arrays` with the long-range phase that the patterns ask for; still 1 where nothing is known.

    `probe` (modes, N, N) in sqrt(counts) replaces the scan's. `light` (H, W), in counts, is by how much each pixel is
    known, None: by all light that falls there. `after_block` hears how many patterns are done.
    """
    probe = prepared.probe if probe is None else probe
    if len(prepared) < FEWEST:
        return canvas
    light = illumination(prepared.layout, probe, arrays) if light is None else light
    if prepared.scan.fresnel_number is None:
        phase = long_range_phase(prepared.layout, slopes(prepared, canvas, probe, arrays, after_block), probe, arrays)
    else:
        size = tile_size(prepared, probe)
        phase = long_range_phase(*tile_slopes(prepared, canvas, probe, size, arrays, after_block), arrays)
    turn = np.exp(1j * (phase - np.float32(np.average(phase, weights=light))))
    # (sum u + eps) / (sum w + eps), as patches are stitched, with u turned: eps stays as it is.
    eps = np.float32(EPSILON_WEIGHT * probe_weight(probe, probe.shape[-1]).max())
    empty = (1 - turn) * (eps / (light + eps))
    return canvas * arrays.put(turn) + arrays.put(empty)


def long_range_phase(
    layout: Layout, found: Slopes, probe: NDArray[np.complex64], arrays: Arrays = NUMPY
) -> NDArray[np.float32]:
    """phi on the canvas (H, W) of a layout, in radians up to a constant: a plane alone where the halves disagree.

    `probe` (modes, N, N) is what the patterns were taken with.
    """
    total = found.curvature.sum(axis=0)
    if not np.linalg.det(total) > 0:  # no light, or a probe that shows no slope
        return np.zeros(layout.shape, dtype=np.float32)
    plane = np.linalg.solve(total, found.gradient.sum(axis=0))
    rest = Slopes(found.gradient - found.curvature @ plane, found.curvature)
    rows, cols = np.ogrid[: layout.shape[0], : layout.shape[1]]
    phase = plane[0] * rows + plane[1] * cols + _supported_phase(Splines(layout, probe), rest, arrays)
    return np.asarray(phase, dtype=np.float32)


def _supported_phase(splines: Splines, found: Slopes, arrays: Arrays) -> NDArray[np.float64]:
    """The splines' part of phi (H, W), as far as two halves of the patterns agree on it."""
    score, information = found.gradient[:, None], found.curvature[:, None, :, None]
    halves = split_interleaved(len(score))
    one, other = map_shared(lambda index: splines.normal(score, information, index), halves, arrays)
    supported = supported_weights(one, other, splines.prior, arrays)
    return np.zeros(splines.layout.shape) if supported is None else splines.image(supported.weights)
