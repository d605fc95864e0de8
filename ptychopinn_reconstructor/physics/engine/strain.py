"""What positions and object together are off by, smoothly: the map that each pattern asks for, integrated.

Positions that neighbors share an error of carry the object along with them, so that no pattern asks for another place;
but each shows a patch that is stretched, turned or sheared a little (`affine`). With c' = c + v(c) the positions of a
scan, c the true ones, pattern i asks for m_i = dv_j/dc_k. v has two cubic splines (`splines`), from the slopes of which
all m_i follow as those of a wavefront from its phase, as far as two halves of the patterns agree. The positions then
move by -v, and the object with them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from ..arrays import NUMPY, Arrays, map_shared
from ..prepare import PreparedScan
from ..scoring.halves import split_interleaved
from .affine import map_slopes
from .splines import Matrix, Splines, supported_weights
from .update import Engine

GROWTH = 1.25  # of the passes from one estimate to the next
BETWEEN = 2  # passes at least, in which the object settles on its new place


class Strain(NamedTuple):
    """v along rows and columns on the canvas, each (H, W), in pixels."""

    rows: NDArray[np.float64]
    cols: NDArray[np.float64]

    def at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """v (n, 2) at places (n, 2) of the canvas."""
        return np.stack([ndimage.map_coordinates(part, places.T, order=1, mode='nearest') for part in self], axis=1)

    def without_affine_part(self, places: NDArray[np.float64]) -> Strain:
        """The same less what an affine map of places (n, 2) explains: that `alignment` finds, with its own errors."""
        terms = np.column_stack([np.ones(len(places)), places])
        plane = np.linalg.lstsq(terms, self.at(places), rcond=None)[0]
        rows, cols = np.ogrid[: self.rows.shape[0], : self.rows.shape[1]]
        return Strain(*(part - (a + b * rows + c * cols) for part, (a, b, c) in zip(self, plane.T, strict=True)))

    def relieve(self, canvas: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """An object (H, W) moved by -v, by cubic splines."""
        rows, cols = np.indices(canvas.shape, dtype=np.float64)
        places = rows + self.rows, cols + self.cols
        real, imaginary = (
            ndimage.map_coordinates(part, places, order=3, mode='nearest') for part in (canvas.real, canvas.imag)
        )
        return np.asarray(real + 1j * imaginary, dtype=np.complex64)


def estimate_strain(
    prepared: PreparedScan,
    canvas: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    arrays: Arrays = NUMPY,
) -> Strain | None:
    """What positions and object (H, W) share of an error, as the patterns show it; None where they agree on nothing.

    `probe` (modes, N, N) in sqrt(counts).
    """
    index = np.arange(len(prepared), dtype=np.int64)
    slope, curvature, _ = map_slopes(prepared, index, canvas, probe, arrays)
    splines = Splines(prepared.layout, probe)
    score, information = slope.reshape(-1, 2, 2), curvature.reshape(-1, 2, 2, 2, 2)

    def prior(relative: float, mean: float) -> Matrix:
        one = splines.prior(relative, mean)
        return Matrix(sparse.block_diag([one, one]))

    halves = split_interleaved(len(prepared))
    one, other = map_shared(lambda half: splines.normal(score, information, half), halves, arrays)
    supported = supported_weights(one, other, prior, arrays)
    if supported is None:
        return None
    rows, cols = (splines.image(weights) for weights in np.split(supported.weights, 2))
    return Strain(rows, cols).without_affine_part(middles(prepared))


def middles(prepared: PreparedScan) -> NDArray[np.float64]:
    """The middle of each pattern's window on the canvas, (n, 2) pixels."""
    return prepared.layout.corners + prepared.layout.fractions + (prepared.n_pixels - 1) / 2


def relieve_strain(engine: Engine) -> None:
    """Move the positions of an engine, and its object with them, by what both share of an error."""
    assert engine.displacements is not None
    placed, arrays = engine.placed, engine.arrays
    canvas = arrays.get(engine.canvas)
    strain = estimate_strain(placed, canvas, engine.probe, arrays)
    if strain is None:
        return
    engine.displacements.move(-strain.at(middles(placed)))
    engine.canvas = arrays.put(strain.relieve(canvas))


def strain_passes(first: int, passes: int) -> frozenset[int]:
    """The passes, of so many, after which the strain is estimated, from `first` on; not after the last ones."""
    found, number = set(), float(first)
    while number < passes - 1:
        found.add(int(number))
        number = max(number + BETWEEN, number * GROWTH)
    return frozenset(found)
