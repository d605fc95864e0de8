"""Scans without faults, drawn: objects, probes, modes, doses of 1e2 to 1e7 photons, overlaps of 0 to 95 %."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_reconstructor.physics.probes import CONFINED, energy_diameter, make_probe
from ptychopinn_reconstructor.physics.simulation.objects import OBJECTS
from ptychopinn_reconstructor.physics.simulation.simulate import raster, simulate
from ptychopinn_reconstructor.scan import Scan

OWN_OBJECTS = (
    'absorbing',
    'smooth',
    'opaque with holes',
    'particles',
    'opaque square',
    'grating',
    'edge',
    'random phases',
)
OWN_PROBES = ('fills its window', 'hard annulus', 'slit', 'fills its far field')
LARGEST = 900  # pixels along a side of the object


def draw_scan(seed: int) -> Scan:
    """A scan without faults; the same for the same seed."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([32, 64, 64, 128]))
    probe = _draw_probe(rng, n)
    step = max(energy_diameter(probe) * (1 - rng.choice([0, 0.3, 0.6, 0.8, 0.95])), 0.3)
    count = min(int(rng.choice([25, 100, 225, 324])), max(16, int((LARGEST - n) / step) ** 2))
    positions = raster(count, step, min(2, step / 4), n, rng)
    height, width = (np.ceil(positions.max(axis=0) + (n - 1) / 2).astype(int) + 4).tolist()
    photons, modes = 10 ** rng.uniform(2, 7), int(rng.choice([1, 1, 1, 3]))
    object_ = _draw_object(rng, (height, width))
    return simulate(n=n, positions=positions, photons=photons, object=object_, probe=probe, modes=modes, seed=seed)


def fields_of(scan: Scan, **changes: Any) -> dict[str, Any]:
    """The fields of a scan as a reader has them, with changes."""
    return {entry.name: getattr(scan, entry.name) for entry in fields(scan)} | changes


def _draw_probe(rng: np.random.Generator, n: int) -> NDArray[np.complex64]:
    name = str(rng.choice([*CONFINED, *OWN_PROBES]))
    if name in CONFINED:
        return np.asarray(make_probe(name, n)[0], np.complex64)
    rows, columns = np.indices((n, n)) - n // 2
    radius = np.hypot(rows, columns)
    if name == 'slit':
        return ((abs(columns) < 0.2 * n) & (abs(rows) < 0.15 * n)).astype(np.complex64)
    if name == 'fills its far field':
        return (radius < 0.45 * n).astype(np.complex64)
    curved, annulus = np.exp(2j * np.sin(radius / 3)), (radius < 0.2 * n) & (radius > 0.07 * n)
    pupil = (
        curved * (radius < 0.3 * n) if name == 'fills its window' else annulus * np.exp(50j * np.pi * (radius / n) ** 2)
    )
    probe: NDArray[np.complex128] = np.asarray(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil))))
    return probe.astype(np.complex64)


def _draw_object(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.complex64]:
    name = str(rng.choice([*OBJECTS, *OWN_OBJECTS]))
    if name in OBJECTS:
        return OBJECTS[name](rng, shape)
    rows, columns = np.indices(shape)
    blobs = ndimage.gaussian_filter(rng.normal(size=shape), 4)
    middle = np.maximum(abs(rows - shape[0] // 2), abs(columns - shape[1] // 2)) < 14
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 25)
    made = {
        'absorbing': np.where(blobs > np.median(blobs), 1, 0.02),
        'smooth': np.exp(18j * (smooth - smooth.min()) / np.ptp(smooth)),
        'opaque with holes': np.where(blobs > np.quantile(blobs, 0.97), 1, 0.01),
        'particles': np.exp(1j * np.where(blobs > np.quantile(blobs, 0.985), 1.5, 0)),
        'opaque square': np.where(middle, 0.02, 1),
        'grating': (2 + np.sign(np.sin(2 * np.pi * columns / 7.3))) / 3,
        'edge': np.where(columns + 0.3 * rows > 0.6 * shape[1], 1, 0.05),
        'random phases': np.exp(1j * rng.uniform(-np.pi, np.pi, shape)),
    }
    return np.asarray(made[name], np.complex64)
