"""The unit of positions that no scan has under its probe: the factor with which patterns that lie together agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..physics.inspection.places import USUAL_STEP, find_absurd_step
from ..scan import Scan
from .trials import Laboratory, choose_part, take_part

# Of the diameter of the probe: all steps that can be reconstructed, near enough for the map of what is left.
STEPS = np.geomspace(0.05, 0.9, 26)
CLEAR = 1.3  # times the least misfit: that of the median factor, at least


def guess_unit(scan: Scan) -> Scan | None:
    """The scan with positions scaled to a usual step; None where its step is not absurd."""
    found = None if scan.probe is None else find_absurd_step(scan.positions, scan.probe)
    if found is None or found[0] <= 0:
        return None
    step, _, diameter = found
    return _scale(scan, USUAL_STEP * diameter / step)


def find_unit(scan: Scan, mended: Scan, laboratory: Laboratory) -> Scan | None:
    """A scan of a usual step with positions scaled so that trials of it, `mended`, fit best; None: none stands out."""
    part = take_part(mended, choose_part(mended))
    factors = STEPS / USUAL_STEP
    misfits = [laboratory.screen(_scale(part, factor), 'another unit') for factor in factors if laboratory.has_time]
    if len(misfits) < len(factors) or np.median(misfits) < CLEAR * max(min(misfits), 0.0):
        return None
    return _scale(scan, float(factors[int(np.argmin(misfits))]))


def _scale(scan: Scan, factor: float) -> Scan:
    return replace(scan, positions=scan.positions * factor, object=None, object_origin=(0.0, 0.0), on_object_grid=False)
