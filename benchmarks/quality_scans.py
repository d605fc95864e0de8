"""Scans that `make quality` draws by itself: objects of ten kinds, four probes, any overlap and dose.

None of them has chosen a constant of the package. Photographs are those that scikit-image brings along, so that the
samples are not of the kinds that a pretraining draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_cases import REFERENCE, STAR
from scipy import fft, ndimage

from ptychopinn_reconstructor.io import read_probe, read_scan, write_npz
from ptychopinn_reconstructor.physics.probes import energy_diameter, probe_modes
from ptychopinn_reconstructor.physics.simulation.objects import make_object
from ptychopinn_reconstructor.physics.simulation.simulate import BORDER, raster, simulate
from ptychopinn_reconstructor.scan import Scan

Image = NDArray[np.float64]
Shape = tuple[int, int]
N = 64  # pixels of a pattern
PATTERNS, DENSE_PATTERNS = 324, 1087  # of a scan; of one whose spots overlap by more than `DENSE` percent
DENSE = 85.0
PHOTONS = 1e5  # incident per pattern
JITTER = 0.25  # of the step, at most 2 pixels
MAGNIFIED = 78  # pixels of the real scan's pupil that are kept of 128: 90 % of the probe then lie within 45 of 64 px


# objects


@cache
def photograph(name: str) -> Image:
    """One of scikit-image's, gray, in [0, 1], a hundredth of its pixels saturated at either end."""
    from skimage import data

    values = np.asarray(getattr(data, name)(), dtype=np.float64)
    gray = values if values.ndim == 2 else values[..., :3].mean(axis=2)
    low, high = np.quantile(gray, (0.01, 0.99))
    return np.asarray(np.clip((gray - low) / (high - low), 0, 1))


def texture(name: str, shape: Shape) -> Image:
    """A photograph cut to (H, W), mirrored where it is smaller, slightly blurred as a lens would."""
    image = photograph(name)
    missing = [(0, max(0, want - have)) for want, have in zip(shape, image.shape, strict=True)]
    whole = np.pad(image, missing, mode='symmetric')[: shape[0], : shape[1]]
    return np.asarray(ndimage.gaussian_filter(whole, 0.6))


def transmission(amplitude: Image, phase: Image, low: float = 0.6, half_range: float = 1.1) -> NDArray[np.complex64]:
    """An object whose amplitude goes from `low` to 1 and whose phase stays within +- `half_range` rad."""
    values = (low + (1 - low) * amplitude) * np.exp(1j * half_range * (2 * phase - 1))
    return np.asarray(values, dtype=np.complex64)


def star(shape: Shape) -> Image:
    """A Siemens star of 36 spokes about the middle, soft at its edges."""
    y, x = np.meshgrid(*(np.arange(size) - size / 2 for size in shape), indexing='ij')
    return np.asarray(ndimage.gaussian_filter((np.sin(36 * np.arctan2(y, x)) > 0).astype(np.float64), 0.7))


def hills(shape: Shape) -> Image:
    """A smooth relief, in [0, 1]: what a phase of many radians looks like."""
    noise = np.random.default_rng(5).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 30.0, mode='reflect')
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth))


def of_photographs(amplitude: str, phase: str) -> Callable[[Shape], NDArray[np.complex64]]:
    """An object of two photographs."""
    return lambda shape: transmission(texture(amplitude, shape), texture(phase, shape))


OBJECTS: Mapping[str, Callable[[Shape], NDArray[np.complex64]]] = {
    'grass': of_photographs('grass', 'gravel'),  # fine texture all over
    'coins': of_photographs('coins', 'coins'),  # islands, amplitude and phase alike
    'page': of_photographs('page', 'text'),  # sharp strokes on smooth ground
    'camera': of_photographs('camera', 'moon'),
    'brick': of_photographs('brick', 'brick'),  # nearly periodic
    'cell': of_photographs('cell', 'horse'),  # smooth amplitude, a sharp outline in phase
    'star': lambda shape: transmission(star(shape), star(shape)),
    'mixed': lambda shape: make_object('mixed', shape, 12),
    'absorbing': lambda shape: transmission(texture('camera', shape), texture('moon', shape), low=0.02),
    'phase of 18 rad': lambda shape: transmission(texture('cell', shape), hills(shape), low=0.8, half_range=9.0),
    'phase of 6 rad': lambda shape: transmission(
        texture('cell', shape), texture('text', shape), low=0.8, half_range=3.0
    ),
}
KINDS = tuple(OBJECTS)[:8]  # those that no case "real" is about


# probes


def annular(outer: float, inner: float, defocus: float) -> NDArray[np.complex128]:
    """The probe (N, N) of a ring-shaped pupil, radii in Fourier pixels, defocus in pi rad at one cycle per pixel."""
    k = np.hypot(*np.meshgrid(*[np.arange(N) - N // 2] * 2, indexing='ij'))
    edges = np.clip(outer - k + 0.5, 0, 1) * np.clip(k - inner + 0.5, 0, 1)
    pupil = edges * np.exp(1j * np.pi * defocus * (k / N) ** 2)
    return np.asarray(fft.fftshift(fft.ifft2(fft.ifftshift(pupil))))


def measured() -> NDArray[np.complex128]:
    """The main mode of the real scan's probe, on coarser pixels and cut to N."""
    probe = np.asarray(read_probe(f'{REFERENCE}:probe')).reshape(-1, 128, 128)[0]
    spectrum = fft.fftshift(fft.fft2(fft.ifftshift(probe)))
    cut = slice(64 - MAGNIFIED // 2, 64 + MAGNIFIED // 2)
    coarse = fft.fftshift(fft.ifft2(fft.ifftshift(spectrum[cut, cut])))
    middle = slice((MAGNIFIED - N) // 2, (MAGNIFIED + N) // 2)
    return np.asarray(coarse[middle, middle])


PROBES: Mapping[str, Callable[[], NDArray[np.complex128]]] = {
    'ring': lambda: annular(10.0, 5.0, 40.0)[None],
    'three modes': lambda: probe_modes(annular(10.0, 5.0, 40.0), 3),
    'window': lambda: annular(20.0, 6.0, 90.0)[None],  # 90 % of its energy within 53 of 64 px, 3 % at the edge
    'measured': lambda: measured()[None],
}


# scans


def write_scan(
    path: Path, object: str, probe: str, *, overlap: float = 60.0, photons: float = PHOTONS, patterns: int | None = None
) -> Path:
    """A scan with its truth as NPZ, spots overlapping by `overlap` percent of its first mode's 90 % diameter."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, make_scan(object, probe, overlap=overlap, photons=photons, patterns=patterns))
    return path


def make_scan(object: str, probe: str, *, overlap: float | None, photons: float, patterns: int | None = None) -> Scan:
    """The same in memory; no overlap: at the positions of the real scan."""
    light = PROBES[probe]()
    centers = measured_positions() if overlap is None else spaced(light[0], overlap, patterns)
    height, width = np.ceil(centers.max(axis=0) + (N - 1) / 2 + BORDER).astype(int) + 1
    truth = OBJECTS[object]((int(height), int(width)))
    return simulate(positions=centers, photons=photons, object=truth, probe=light, seed=11)


def write_probe_file(folder: Path, probe: str) -> str:
    """The first mode of a probe, with all photons, as `FILE:KEY`: what a pretraining is for."""
    path = folder / f'{probe.replace(" ", "_")}.npz'
    first = PROBES[probe]()[0]
    np.savez(path, probe=(first * np.sqrt(PHOTONS / (np.abs(first) ** 2).sum())).astype(np.complex64))
    return f'{path}:probe'


def spaced(probe: NDArray[np.complex128], overlap: float, patterns: int | None) -> Image:
    """Centers (n, 2) of a jittered raster on which spots overlap by so many percent."""
    step = (1 - overlap / 100) * energy_diameter(probe)
    count = patterns or (DENSE_PATTERNS if overlap > DENSE else PATTERNS)
    return raster(count, step, min(2.0, JITTER * step), N, np.random.default_rng(7))


def measured_positions() -> Image:
    """The 516 centers of the real scan, on the pixels of `measured`."""
    centers = read_scan(STAR).scan.positions * (MAGNIFIED / 128)
    return np.asarray(centers - centers.min(axis=0) + (N - 1) / 2 + BORDER)


def every(scan: Scan, step: int) -> Scan:
    """Every `step`-th pattern of a scan."""
    chosen = np.arange(0, len(scan.positions), step)
    return replace(
        scan, diffraction=np.asarray(scan.diffraction)[chosen], positions=scan.positions[chosen], scan_index=None
    )
