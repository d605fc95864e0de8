"""A scan in the form that training and reconstruction use: mended, in counts."""

from __future__ import annotations

from dataclasses import replace

from ..config import Config, DataConfig, RefinementConfig
from ..errors import ScanError
from ..events import Notice
from ..physics.inspection.inspect import mend_unless_as_is
from ..physics.photons import with_photons
from ..scan import Scan


def make_usable_for_network(scan: Scan, config: Config) -> tuple[Scan, tuple[Notice, ...]]:
    """`make_usable` for training and reconstruction with a network; ScanError for the near field, too."""
    scan = set_propagation(scan, config.refinement)
    if scan.fresnel_number is not None:
        raise ScanError(
            f'The scan is of the near field (Fresnel number {scan.fresnel_number[0]:.3g} a pixel), where the light '
            'fills the patch that a network sees the middle of; reconstruct it with the engine alone (refine).'
        )
    return make_usable(scan, config.data)


def set_propagation(scan: Scan, settings: RefinementConfig) -> Scan:
    """The scan with the Fresnel number of the settings where they have one; ScanError with a diagnosis beside it."""
    if settings.fresnel_number is not None:
        scan = replace(scan, fresnel_number=(settings.fresnel_number, settings.fresnel_number))
    if scan.fresnel_number is not None and settings.auto:
        raise ScanError('The scan is of the near field, which a diagnosis does not know; leave auto out.')
    return scan


def make_usable(scan: Scan, settings: DataConfig) -> tuple[Scan, tuple[Notice, ...]]:
    """A scan without what is certainly a fault, unless it is to be taken as it is, in counts, and what was changed.

    Raises ScanError when its mask hides the beam, its positions are in another unit, or it is of several samples.
    """
    mended, found = mend_unless_as_is(scan, as_is=settings.as_is)
    scaled, photons = with_photons(mended, settings.nphotons)
    return scaled, (*found, *photons)
