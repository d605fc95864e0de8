"""Scans whose positions are lengths: the size of an object pixel follows from energy, distance and detector pixel.

In the far field an object pixel is wavelength * distance / (N * detector pixel), so that the patterns are Fourier
transforms of the light behind the sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..events import Notice
from .arrays import drop_relaxation_axis
from .domain import DomainChoice, decide_domain
from .records import ScanFile, Use, build_scan

EV_TIMES_METERS = 1.2398419843320026e-6  # Planck's constant times the speed of light, in eV m
JOULES_PER_EV = 1.602176634e-19


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a file of a beamline holds.

    Parameters
    ----------
    patterns
        (n, N, N).
    positions
        (n, 2) [row, column] of the beam on the sample in meters.
    energy
        Of a photon, eV.
    distance
        From the sample to the detector, meters.
    detector_pixel
        (height, width) of a pixel of the detector in meters.
    bad_pixels
        (N, N) bool, True = bad, or None.
    probe
        ([modes,] N, N) complex, or None.
    scan_index
        (n,) integers naming the scan of each pattern, or None.
    is_nominal
        Whether the geometry stands in for one that is not known, so that only pixels are.
    """

    patterns: NDArray[Any]
    positions: NDArray[np.float64]
    energy: float
    distance: float
    detector_pixel: tuple[float, float]
    bad_pixels: NDArray[np.bool_] | None = None
    probe: NDArray[Any] | None = None
    scan_index: NDArray[Any] | None = None
    metadata: dict[str, str | float] = field(default_factory=dict)
    is_nominal: bool = False


def make_scan(
    path: Path,
    measured: Measurement,
    domain: DomainChoice,
    probe: NDArray[Any] | None,
    notices: tuple[Notice, ...],
    use: Use,
) -> ScanFile:
    """A scan of a measurement in the far field, mended as `use` says; `probe` takes the place of the measured one.

    Raises ScanError when the positions are too far apart for the far field, or break the contract of a scan.
    """
    if len(measured.positions) != len(measured.patterns):
        raise ScanError(
            f'{path} holds {len(measured.patterns)} patterns but {len(measured.positions)} positions; '
            'expected one position for each pattern.'
        )
    size = compute_object_pixel(
        measured.patterns.shape[-1], measured.distance, measured.energy, measured.detector_pixel
    )
    _check_far_field(path, measured, size)
    chosen, why = decide_domain(measured.patterns, domain)
    own = None if measured.probe is None else drop_relaxation_axis(measured.probe, f'The probe of {path}')
    known = {'photon_energy_eV': measured.energy, 'detector_object_distance_m': measured.distance}
    scan, mended = build_scan(
        use,
        diffraction=measured.patterns,
        positions=measured.positions / size,
        probe=own if probe is None else probe,
        domain=chosen,
        bad_pixels=measured.bad_pixels,
        scan_index=measured.scan_index,
        pixel_size=None if measured.is_nominal else size,
        metadata=measured.metadata if measured.is_nominal else measured.metadata | known,
    )
    geometry = () if measured.is_nominal else (_describe_geometry(measured, size),)
    return ScanFile(scan, (Notice('measurement_domain', why), *geometry, *notices, *mended))


def _describe_geometry(measured: Measurement, size: tuple[float, float]) -> Notice:
    text = (
        f'Object pixels are {size[0] * 1e9:.4g} x {size[1] * 1e9:.4g} nm: {measured.energy:.6g} eV, '
        f'{measured.distance:.4g} m, detector pixels of {measured.detector_pixel[0] * 1e6:.4g} um.'
    )
    return Notice('geometry', text)


def compute_object_pixel(
    side: int, distance: float, energy: float, detector_pixel: tuple[float, float]
) -> tuple[float, float]:
    """(height, width) of an object pixel in meters for patterns of `side` pixels; lengths in meters, energy in eV."""
    height, width = (EV_TIMES_METERS / energy * distance / (side * pixel) for pixel in detector_pixel)
    return height, width


def _check_far_field(path: Path, measured: Measurement, size: tuple[float, float]) -> None:
    """Refuse what the geometry shows to be of the near field.

    The detector of the far field is larger than the sample, so its pixels are larger than those of the object; the beam
    fits into N object pixels, and neighbors overlap.
    """
    window, pixel = float(min(size)) * measured.patterns.shape[-1], min(measured.detector_pixel)
    step = _measure_step(measured.positions)
    if min(size) > pixel:
        what = (
            f'object pixels would be {min(size) * 1e6:.3g} um, larger than those of the detector ({pixel * 1e6:.3g} um)'
        )
    elif step > window:
        what = (
            f'positions are {step * 1e6:.3g} um apart, but {measured.distance:.4g} m before the detector a beam may be '
            f'{window * 1e6:.3g} um wide at most'
        )
    else:
        return
    raise ScanError(
        f'{path} is no far-field scan: its {what}; near-field ptychography is not supported, or the distance or a unit '
        'is wrong.'
    )


def _measure_step(positions: NDArray[np.float64]) -> float:
    """The median distance of up to 256 positions to their nearest neighbors; 0 when there are fewer than two."""
    from scipy.spatial import KDTree

    places = np.unique(positions[np.isfinite(positions).all(axis=1)], axis=0)
    if len(places) < 2:
        return 0.0
    apart, _ = KDTree(places).query(places[:: max(1, len(places) // 256)], k=[2])  # the first is the place itself
    return float(np.median(apart))
