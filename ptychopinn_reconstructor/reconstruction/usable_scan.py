"""A scan in the form that training and reconstruction use: mended, in counts."""

from __future__ import annotations

from ..config import DataConfig
from ..events import Notice
from ..physics.inspection.inspect import mend_unless_as_is
from ..physics.photons import with_photons
from ..scan import Scan


def make_usable(scan: Scan, settings: DataConfig) -> tuple[Scan, tuple[Notice, ...]]:
    """A scan without what is certainly a fault, unless it is to be taken as it is, in counts, and what was changed.

    Raises ScanError when its mask hides the beam, its positions are in another unit, or it is of several samples.
    """
    mended, found = mend_unless_as_is(scan, as_is=settings.as_is)
    scaled, photons = with_photons(mended, settings.nphotons)
    return scaled, (*found, *photons)
