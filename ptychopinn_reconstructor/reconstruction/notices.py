"""What a user is told of a scan before work begins: how its probe was understood, and patterns without counts."""

from __future__ import annotations

import numpy as np

from ..events import Notice
from ..physics.prepare import PreparedScan


def scan_notices(prepared: PreparedScan) -> tuple[Notice, ...]:
    """How the power of the probe was understood, and how many patterns hold no counts."""
    return power_notice(prepared), *empty_patterns_notice(prepared)


def power_notice(prepared: PreparedScan) -> Notice:
    """How the power of the probe was understood."""
    _, ratio, choice = prepared.gauge
    what = 'trusted' if choice == 'absolute' else 'rescaled so that mean |O|^2 = 1'
    text = f'Probe power is {choice}: q = mean counts / sum |P|^2 = {ratio:.3g}, so it is {what}.'
    return Notice('power_choice', text)


def empty_patterns_notice(prepared: PreparedScan) -> tuple[Notice, ...]:
    """A warning when patterns hold no counts: the shutter was closed, or the beam was lost."""
    empty = np.flatnonzero(prepared.scan.pattern_counts == 0)
    if not len(empty):
        return ()
    text = f'{len(empty)} patterns hold no counts (the first is number {empty[0]}); leave them out if the beam was off.'
    return (Notice('empty_patterns', text),)
