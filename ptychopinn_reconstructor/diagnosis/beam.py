"""Whether the power of the beam drifts along a scan, apart from what its object absorbs.

A beam that decays and a sample that grows denser lower the counts alike. But where an amplitude has a slope the light
moves on the detector, so that a trial's patterns tell the long-range amplitude that its object should not have taken.
"""

from __future__ import annotations

import numpy as np

from ..physics.engine.intensity import long_range_amplitude
from ..physics.illumination import illumination
from ..scan import Scan
from .finding import Finding
from .trials import Trial, choose_part

CLEAR = 2.4  # times what counting noise makes of it
# Of log s over the part of a scan: .03 at most without a drift; 17 % at least where the whole scan loses 30 % or more.
LEAST = 0.08
STEADY = 3.0  # times the standard deviation about a straight line


def find_beam_drift(scan: Scan, trial: Trial) -> Finding | None:
    """A finding where the patterns of a trial on the middle of `scan` say that the power of the beam drifts."""
    prepared, index = trial.prepared, choose_part(scan)
    if prepared.intensity is not None or len(index) != len(prepared):
        return None
    light = illumination(prepared.layout, trial.probe)
    lacking = long_range_amplitude(prepared, trial.canvas, trial.probe, light)
    if not (lacking.explains and lacking.exceeds(CLEAR, prepared.scan.mean_counts)):
        return None
    logarithm = np.empty(len(prepared))
    logarithm[prepared.order] = -2 * lacking.at_patterns
    line = np.polyfit(index, logarithm, 1)
    change, scatter = float(line[0] * np.ptp(index)), float(np.std(logarithm - np.polyval(line, index)))
    if abs(change) < max(LEAST, STEADY * scatter):
        return None
    whole = float(np.expm1(line[0] * (len(scan) - 1)))
    return Finding(
        'flicker',
        f'The power of the beam {"falls" if whole < 0 else "rises"} by about {abs(whole):.0%} along the scan, which an '
        'object alone would take for its own.',
        'likely',
        'Nothing more than --intensity on, which finds it along with the object, or a monitor of the beam.',
        figures={'change': whole, 'scatter': scatter},
    )
