"""Turning, shearing and scaling a whole scan until its patterns ask for no more of it, by short trials.

An object that was refined on positions stretched as a whole is stretched too, and its phases are frayed where spots
overlap. So it is carried along with the positions, refined for a few passes, and asked again (`affine`). In the end
the same short refinement from the same start must fit better with the map than without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..arrays import NUMPY, Arrays
from ..prepare import PreparedScan
from .affine import AffineMap, estimate_affine
from .positions import displace_scan
from .residuals import residuals
from .update import Engine

ROUNDS = 8  # of a map of a tenth, three quarters are found in each
SETTLED = 1.5  # standard errors; less is not worth another round
WORTH = 1e-3  # of the misfit: what a map must bring; an object that repeats itself may bring less
CERTAIN = 3.0  # standard errors of that, from pattern to pattern


class Trial(NamedTuple):
    """Canvas (H, W) and probe (modes, N, N) after a few passes, and the scan with what they found of the detector."""

    canvas: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    prepared: PreparedScan


class Distorted(Exception):  # noqa: N818 - not an error
    """The positions need to be mapped as a whole."""

    def __init__(self, begun: Trial, needed: AffineMap) -> None:
        super().__init__()
        self.begun, self.needed = begun, needed


Try = Callable[[PreparedScan, NDArray[np.complex64], NDArray[np.complex64]], Trial]  # with a start and a probe


@dataclass(frozen=True, eq=False)
class Alignment:
    """A scan with its positions mapped by `matrix` (2, 2) about their mean; `displacements` (n, 2) are what that is.

    `canvas` (H, W) is the object refined on them so far. All on the canvas of the scan as it was.
    """

    matrix: NDArray[np.float64]
    displacements: NDArray[np.float64]
    prepared: PreparedScan
    canvas: NDArray[np.complex64]


def align_scan(
    prepared: PreparedScan, begun: Trial, first: AffineMap, attempt: Try, arrays: Arrays = NUMPY
) -> Alignment:
    """The scan under the map that its patterns ask for, from a first estimate beside an object that has begun."""
    canvas, probe, _ = begun
    found, matrix, aligned = first, np.eye(2), prepared
    for _ in range(ROUNDS):
        canvas = carry_object(canvas, aligned, found.matrix)
        matrix = found.matrix @ matrix
        aligned = map_positions(prepared, matrix)
        canvas, probe, _ = attempt(aligned, canvas, probe)
        found = estimate_affine(aligned, canvas, probe, arrays=arrays)
        if found.significance < SETTLED:
            break
    return Alignment(matrix, affine_displacements(prepared, matrix), aligned, canvas)


def fits_better(
    alignment: Alignment,
    prepared: PreparedScan,
    start: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    attempt: Try,
    arrays: Arrays = NUMPY,
) -> bool:
    """Whether a few passes from the same start (H, W) and probe end better on the aligned scan than on the scan."""
    carried = carry_object(start, prepared, alignment.matrix)
    trials = attempt(prepared, start, probe), attempt(alignment.prepared, carried, probe)
    before, after = (residuals(end.prepared, end.canvas, end.probe, arrays=arrays).error for end in trials)
    better = before - after  # of the same patterns: their noise is in both
    error = float(better.std()) / np.sqrt(len(better))
    return bool(better.mean() > max(CERTAIN * error, WORTH * float(before.mean())))


def look_for_distortion(engine: Engine) -> None:
    """Raise Distorted where the patterns ask for another map of all positions."""
    canvas = engine.arrays.get(engine.canvas)
    found = estimate_affine(engine.placed, canvas, engine.probe, arrays=engine.arrays)
    if found.needed:
        raise Distorted(Trial(canvas, engine.probe, engine.prepared), found)


def map_scan(engine: Engine) -> bool:
    """Turn, shear and scale all positions, and the object with them, where the patterns ask for it; whether they do."""
    placed, canvas = engine.placed, engine.arrays.get(engine.canvas)
    found = estimate_affine(placed, canvas, engine.probe, arrays=engine.arrays)
    if not found.needed or engine.displacements is None:
        return False
    engine.canvas = engine.arrays.put(carry_object(canvas, placed, found.matrix))
    engine.velocity[:] = 0
    engine.prepared = displace_scan(engine.prepared, affine_displacements(placed, found.matrix))
    engine.displacements.positions = engine.prepared.positions
    engine.measure_illumination()
    return True


def map_positions(prepared: PreparedScan, matrix: NDArray[np.float64]) -> PreparedScan:
    """The scan with its positions multiplied by `matrix` (2, 2) about their mean."""
    return displace_scan(prepared, affine_displacements(prepared, matrix))


def affine_displacements(prepared: PreparedScan, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much that displaces each position, (n, 2) pixels in canonical order."""
    return np.asarray((prepared.positions - prepared.positions.mean(axis=0)) @ (matrix - np.eye(2)).T)


def carry_object(
    canvas: NDArray[np.complex64], prepared: PreparedScan, matrix: NDArray[np.float64]
) -> NDArray[np.complex64]:
    """The object (H, W) of a scan mapped as its positions are, by cubic splines; 1 where nothing was."""
    laid = prepared.layout
    center = (laid.corners + laid.fractions).mean(axis=0) + (prepared.n_pixels - 1) / 2
    back = np.linalg.inv(matrix)
    parts = (
        ndimage.affine_transform(part, back, center - back @ center, order=3, cval=beyond)
        for part, beyond in ((canvas.real, 1.0), (canvas.imag, 0.0))
    )
    real, imaginary = parts
    return np.asarray(real + 1j * imaginary, dtype=np.complex64)
