"""Error bars of a refined object, from one more look at all patterns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..physics.arrays import NUMPY, Arrays
from ..physics.engine.far_field_step import FarFieldStep
from ..physics.engine.prior import mean_dose
from ..physics.engine.refine import Refined
from ..physics.engine.update import Engine
from ..physics.geometry import scan_area
from ..physics.illumination import illuminated_area
from ..physics.prepare import PreparedScan
from ..physics.scoring.error_bars import error_radius, local_quantities


def estimate_error(
    prepared: PreparedScan, refined: Refined, noise_ratio: float, arrays: Arrays = NUMPY
) -> NDArray[np.float32] | None:
    """Radius (H, W) about the refined object that holds the true transmission in 90 % of the pixels.

    Of the lit pixels between the outermost patch centers, NaN elsewhere. `prepared` is the scan with what the
    refinement has found of positions and detector, `noise_ratio` the misfit in units of counting noise. None where the
    radius was never calibrated: in the near field, or without a pass.
    """
    if refined.change is None or prepared.kernel is not None:
        return None
    engine = Engine(prepared, refined.canvas, refined.probe, FarFieldStep.for_scan(prepared, arrays))
    step, light = engine.lacking_object(np.arange(len(prepared)))
    covered = np.zeros(light.shape, dtype=bool)
    area = scan_area(prepared.scan.positions, prepared.layout.origin)
    covered[area] = illuminated_area(light)[area]
    quantities = local_quantities(refined.canvas, light, step, refined.change, mean_dose(light))
    return error_radius(quantities, covered, len(refined.residuals), noise_ratio)
