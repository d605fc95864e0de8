"""Scans whose positions are lengths: the size of an object pixel follows from energy, distance and detector pixel.

In the far field an object pixel is wavelength * distance / (N * detector pixel), so that the patterns are Fourier
transforms of the light behind the sample. In the near field it is the detector pixel divided by the magnification
(`physics.propagation`), which a distance of the source says, or a Fresnel number that is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

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
    is_near_field
        Whether the file calls itself a measurement of the near field.
    source_distance
        From the source, or the focus, to the sample in meters; infinite: a parallel beam.
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
    is_near_field: bool = False
    source_distance: float = math.inf


class Sampling(NamedTuple):
    """Object pixels (height, width) in meters, and of the near field the Fresnel number and the magnification."""

    size: tuple[float, float]
    fresnel_number: tuple[float, float] | None = None
    magnification: float = 1.0


def make_scan(
    path: Path,
    measured: Measurement,
    domain: DomainChoice,
    probe: NDArray[Any] | None,
    notices: tuple[Notice, ...],
    use: Use,
) -> ScanFile:
    """A scan of a measurement, mended as `use` says; `probe` takes the place of the measured one.

    Raises ScanError when it is not said to be of the near field and its positions are too far apart for the far field,
    or when it breaks the contract of a scan.
    """
    if len(measured.positions) != len(measured.patterns):
        raise ScanError(
            f'{path} holds {len(measured.patterns)} patterns but {len(measured.positions)} positions; '
            'expected one position for each pattern.'
        )
    sampling = _find_sampling(path, measured, use.fresnel_number)
    size = sampling.size
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
        fresnel_number=sampling.fresnel_number,
        metadata=measured.metadata if measured.is_nominal else measured.metadata | known,
    )
    geometry = () if measured.is_nominal else (_describe_geometry(measured, sampling),)
    return ScanFile(scan, (Notice('measurement_domain', why), *geometry, *notices, *mended))


def _describe_geometry(measured: Measurement, sampling: Sampling) -> Notice:
    height, width = (1e9 * side for side in sampling.size)
    text = (
        f'Object pixels are {height:.4g} x {width:.4g} nm: {measured.energy:.6g} eV, '
        f'{measured.distance:.4g} m, detector pixels of {measured.detector_pixel[0] * 1e6:.4g} um'
    )
    if sampling.fresnel_number is None:
        return Notice('geometry', f'{text}.')
    near = (
        f'{text}, near field with a Fresnel number of {sampling.fresnel_number[0]:.4g} a pixel, magnified '
        f'{sampling.magnification:.5g} times'
    )
    parallel = ' (the file names no distance of the source: a parallel beam)' if sampling.magnification == 1 else ''
    return Notice('geometry', f'{near}{parallel}.')


def _find_sampling(path: Path, measured: Measurement, fresnel_number: float | None) -> Sampling:
    """Object pixels of a measurement, by its own geometry or by a Fresnel number that is given.

    F = p^2 / (M wavelength z2) for detector pixels p at a distance z2, so that F tells the magnification M.
    """
    from ..physics.propagation import compute_fresnel_number, compute_magnification

    wavelength, height = EV_TIMES_METERS / measured.energy, measured.detector_pixel[0]
    if fresnel_number is None and not measured.is_near_field:
        size = compute_object_pixel(
            measured.patterns.shape[-1], measured.distance, measured.energy, measured.detector_pixel
        )
        _check_far_field(path, measured, size)
        return Sampling(size)
    if fresnel_number is None:
        magnification = compute_magnification(measured.source_distance, measured.distance)
    else:
        magnification = height**2 / (fresnel_number * wavelength * measured.distance)
    rows, cols = (pixel / magnification for pixel in measured.detector_pixel)
    number = compute_fresnel_number((rows, cols), wavelength, measured.distance / magnification)
    return Sampling((rows, cols), number, magnification)


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
    parallel = min(measured.detector_pixel) ** 2 * measured.energy / EV_TIMES_METERS / measured.distance
    raise ScanError(
        f'{path} is no far-field scan: its {what}; the distance or a unit is wrong, or it is of the near field: set '
        f'fresnel_number then ({parallel:.3g} in a parallel beam).'
    )


def _measure_step(positions: NDArray[np.float64]) -> float:
    """The median distance of up to 256 positions to their nearest neighbors; 0 when there are fewer than two."""
    from scipy.spatial import KDTree

    places = np.unique(positions[np.isfinite(positions).all(axis=1)], axis=0)
    if len(places) < 2:
        return 0.0
    apart, _ = KDTree(places).query(places[:: max(1, len(places) // 256)], k=[2])  # the first is the place itself
    return float(np.median(apart))
