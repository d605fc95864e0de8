"""Positions that no scan has: not finite, far from all others, or in another unit than object pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from ...errors import ScanError
from ..probes import energy_diameter
from ..sampling import scan_step

FAR = 10.0  # times the median distance of neighbors
MOST = 0.05  # share of the positions
FINEST, COARSEST = 0.03, 1.4  # step in diameters of the probe
SMALLEST, SMALL = 0.1, 2.0  # extent in diameters of the probe: no scan; one whose step is looked at
EQUAL = 1e-6  # pixels apart
FEWEST = 9  # positions from which a scan can be judged
USUAL_STEP, USUAL_PIXEL = 0.3, 2e-8  # of the diameter; meters
UNITS = {'meters': 1.0, 'millimeters': 1e-3, 'micrometers': 1e-6, 'nanometers': 1e-9, 'angstroms': 1e-10}


def lost_positions(positions: NDArray[np.float64], n_pixels: int) -> NDArray[np.bool_]:
    """Those (n,) of the positions (n, 2) that are not finite, or share no pixel of the object with most others.

    None where that is true of more than 5 %.
    """
    lost: NDArray[np.bool_] = np.logical_not(np.isfinite(positions).all(axis=1))
    known = np.flatnonzero(~lost)
    if len(known) >= FEWEST:
        nearest = np.asarray(cKDTree(positions[known]).query(positions[known], k=2)[0])[:, 1]
        reach = max(FAR * float(np.median(nearest)), n_pixels)
        lost[known] = (nearest > reach) | _are_apart(positions[known], reach)
    return lost if lost.mean() <= MOST else np.zeros_like(lost)


def _are_apart(positions: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Those (n,) of positions (n, 2) in small groups of their own, more than some `reach` from the largest group.

    Groups are those of squares of that side that touch each other.
    """
    squares, square = np.unique(np.floor(positions / reach).astype(np.int64), axis=0, return_inverse=True)
    rows, columns = cKDTree(squares).query_pairs(1.5, output_type='ndarray').reshape(-1, 2).T
    links = sparse.coo_array((np.ones(len(rows)), (rows, columns)), (len(squares),) * 2)
    group = csgraph.connected_components(links, directed=False)[1][square.ravel()]
    return np.asarray(group != np.bincount(group).argmax())


def find_absurd_step(positions: NDArray[np.float64], probe: NDArray[Any]) -> tuple[float, float, float] | None:
    """Step and extent of positions (n, 2), and the diameter of a probe (modes, N, N), pixels, where they do not go
    together: the strongest mode counts, since weak ones may be noise. None where they do, or are too few to tell.
    """
    if len(positions) < FEWEST or not np.isfinite(positions).all():
        return None
    strongest = probe[np.argmax((np.abs(probe) ** 2).sum(axis=(1, 2)))]
    diameter, step = max(energy_diameter(strongest), 1.0), scan_step(positions)
    extent = float(np.ptp(positions, axis=0).max())
    close = extent < SMALLEST * diameter or (extent < SMALL * diameter and step < FINEST * diameter)
    return (step, extent, diameter) if close or step > COARSEST * diameter else None


def check_step(positions: NDArray[np.float64], probe: NDArray[Any], pixel_size: object = None) -> None:
    """Raise ScanError where positions (n, 2) lie absurdly close or far for a probe (modes, N, N), pixels.

    The likely unit is said, unless the `pixel_size` is known, with which the reader has converted lengths.
    """
    found = find_absurd_step(positions, probe)
    if found is None:
        return
    step, extent, diameter = found
    why = (
        'the pixel size of the object or the probe is probably not that of this scan; correct it'
        if pixel_size is not None
        else f'they are probably in {likely_unit(step, diameter)}; divide them by the object pixel size in that unit'
    )
    raise ScanError(
        f'The scan has a step of {step:.3g} and spans {extent:.3g} pixels, but its probe is {diameter:.3g} pixels '
        f'wide: {why} (or pass as_is if that is right).'
    )


def likely_unit(step: float, diameter: float) -> str:
    """The unit of positions whose neighbors lie `step` apart where the probe is `diameter` object pixels wide.

    That in which an object pixel comes nearest to 20 nanometers, if the step is 0.3 diameters.
    """
    pixel = max(step, 1e-30) / (USUAL_STEP * diameter)
    return min(UNITS, key=lambda unit: abs(np.log(pixel * UNITS[unit] / USUAL_PIXEL)))


def nearest_to_middle(positions: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indexes (k,), increasing, of the `count` positions (n, 2) nearest to their median."""
    found = cKDTree(positions).query(np.median(positions, axis=0), k=min(count, len(positions)))[1]
    return np.sort(np.atleast_1d(np.asarray(found, dtype=np.int64)))


def pairs_of_neighbors(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indexes (n, 2) of each position and the nearest other one."""
    return np.asarray(cKDTree(positions).query(positions, k=2)[1], dtype=np.int64)


def pairs_at_one_place(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indexes (k, 2) of the positions (n, 2) that are equal."""
    return np.asarray(cKDTree(positions).query_pairs(EQUAL, output_type='ndarray'), dtype=np.int64).reshape(-1, 2)
