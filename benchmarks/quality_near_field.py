"""The cases "near field" of `make quality`: Fresnel numbers of .5 to .005 a pixel, an illumination behind a diffuser.

49 patterns of 128 x 128 pixels, 256 x 256 where light spreads further, whose windows overlap by seven eighths; 1,000
photons on a pixel. Positions lie on whole pixels: other packages, to which the same scans go, shift the probe and not
the object, which a far field does not show, but a near field does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from quality_able import TWO
from quality_cases import Case, Figures, run
from quality_real import judged
from quality_scans import OBJECTS

from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.physics.simulation.simulate import BORDER, raster, simulate
from ptychopinn_reconstructor.scan import Scan

PATTERNS, STEP, PHOTONS = 49, 1 / 8, 1000.0  # of a scan, of the window, and on a pixel
SIDES: Mapping[float, int] = {0.5: 128, 0.05: 128, 0.005: 256}  # of a pattern, by Fresnel number


def make_near_scan(object: str, number: float, *, whole: bool = True) -> Scan:
    """A scan at a Fresnel number with its truth; `whole`: positions on whole pixels."""
    n = SIDES[number]
    positions = raster(PATTERNS, STEP * n, 2.0, n, np.random.default_rng(1))
    if whole:
        positions = np.rint(positions - (n - 1) / 2) + (n - 1) / 2
    height, width = np.ceil(positions.max(axis=0) + (n - 1) / 2 + BORDER).astype(int).tolist()
    truth = OBJECTS[object]((height + 1, width + 1))
    photons = PHOTONS * n * n
    return simulate(
        n=n, positions=positions, photons=photons, object=truth, probe='diffuser', fresnel_number=number, seed=1
    )


def by_engine(number: float, work: Path) -> Figures:
    """`ptychopinn refine` as it comes, with positions on whole pixels and between them."""
    rows = {}
    work.mkdir(parents=True, exist_ok=True)
    for object in TWO:
        for kind, whole in (('', True), (', fractions of a pixel', False)):
            name = f'{object}{kind}'
            scan = make_near_scan(object, number, whole=whole)
            file, truth = work / f'{object}_{whole}.npz', work / f'{object}_{whole}_truth.npz'
            write_npz(truth, scan)
            write_npz(file, replace(scan, object=None))
            rows[name] = judged(run('refine', file, '--truth', truth, '--output-dir', work / f'{object}_{whole}'))
    return rows


def cases() -> dict[str, Case]:
    """The cases "near field"."""
    return {f'near field, F = {number:g}': partial(by_engine, number) for number in SIDES}
