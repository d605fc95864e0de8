"""What a user is told of a scan before work begins: how its probe was understood, and patterns without counts."""

from __future__ import annotations

import numpy as np

from ..physics.prepare import PreparedScan
from ..scan import Scan


def gauge_note(prepared: PreparedScan) -> str:
    """How the power of the probe was understood, for the user."""
    _, ratio, choice = prepared.gauge
    what = 'trusted' if choice == 'absolute' else 'rescaled so that mean |O|^2 = 1'
    return f'Probe power is {choice}: q = mean counts / sum |P|^2 = {ratio:.3g}, so it is {what}.'


def empty_note(scan: Scan) -> list[str]:
    """A warning when patterns hold no counts: the shutter was closed, or the beam was lost."""
    empty = np.flatnonzero(scan.pattern_counts == 0)
    if not len(empty):
        return []
    return [
        f'{len(empty)} patterns hold no counts (the first is number {empty[0]}); leave them out if the beam was off.'
    ]
