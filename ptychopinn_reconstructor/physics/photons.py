"""Counts for patterns that hold none: normalized intensities or amplitudes (specs/settings_defined.md, S8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..events import Notice
from ..scan import Scan

SAMPLE = 64  # patterns looked at
AGREEING = 0.99  # share of the lit pixels that must be whole numbers
TOLERANCE = 1e-3, 1e-6  # of a whole number, absolute and relative: what squares in single precision keep


def holds_counts(scan: Scan) -> bool:
    """Whether the intensities of a scan are whole numbers, judged by 64 of its patterns."""
    values = scan.counts(np.unique(np.linspace(0, len(scan) - 1, SAMPLE).astype(np.int64)))
    lit = values[values > 0].astype(np.float64)
    whole = np.abs(lit - np.rint(lit)) < TOLERANCE[0] + TOLERANCE[1] * lit
    return bool(whole.mean() >= AGREEING)


def with_photons(scan: Scan, photons: float | None) -> tuple[Scan, tuple[Notice, ...]]:
    """A scan whose mean pattern has `photons` counts if it holds no counts itself, and a notice about it.

    As it is where `photons` is None, or where its patterns hold counts.
    """
    if photons is None:
        return scan, ()
    if holds_counts(scan):
        text = f'nphotons = {photons:g} is not used: the patterns hold counts, {scan.mean_counts:.4g} each.'
        return scan, (Notice('photons', text),)
    scaled = replace(scan, count_unit=scan.count_unit * photons / scan.mean_counts)
    return scaled, (Notice('photons', f'The patterns are scaled to {photons:g} photons each, as nphotons says.'),)
