"""What there is to gain: `python -m learning.bounds --work FOLDER` after `learning.check`, which it takes scans from.

The engine's error in three bands beside counting noise; and on ideal scans, truth and counting noise alone, the learned
step against one proximal step of the total variation at the best of five strengths for each object, which no one knows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_reconstructor.physics.engine.prior import Smoothness
from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.illumination import illumination
from ptychopinn_reconstructor.physics.learned.features import Evidence
from ptychopinn_reconstructor.physics.learned.shipped import FILE, Shipped, read_network
from ptychopinn_reconstructor.physics.learned.step import correct
from ptychopinn_reconstructor.physics.scoring.metrics import compare

from .check import CHECKED, CHOSEN_ON, OVERLAPS, PHOTONS, Checked, reconstruct

Canvas = NDArray[np.complex64]
BANDS = 7.0, 1.5  # pixels, sigma: slower than the first, finer than the second
STRENGTHS = 0.25, 0.5, 1.0, 2.0, 4.0
IDEAL = ('page', 'coins', 'cell', 'text', 'lattice', 'bars')
SIZE, RIM = 192, 8


def split_error(checked: Checked, *, pistons: bool) -> list[float]:
    """Rms error of phase (mrad) and amplitude (1e-3), slow, middle and fine, and counting noise of a pixel (1e-3)."""
    scan, prepared = checked.scan, checked.prepared
    origin = prepared.layout.origin
    found = compare(
        checked.canvas, origin, np.asarray(scan.object), scan.object_origin, scan.positions, margin=4, pistons=pistons
    )
    phase = np.angle(found.result * found.truth.conj())
    amplitude = np.abs(found.result) / found.amplitude_ratio - np.abs(found.truth)
    light = illumination(prepared.layout, prepared.probe)[scan_area(scan.positions, origin, 4)]
    parts = [float(np.std(band)) for error in (phase, amplitude) for band in _bands(error)]
    return [1e3 * value for value in (*parts, float(np.sqrt(np.mean(1 / (2 * light)))))]


def _bands(error: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    slow, middle = (ndimage.gaussian_filter(error, sigma) for sigma in BANDS)
    return [slow, middle - slow, error - middle]


def compare_with_smoothing(shipped: Shipped, object_: str, counts: float) -> list[float]:
    """Detail, phase and amplitude in dB of the best smoothing, and what the learned step has more."""
    truth = CHECKED[object_]((SIZE, SIZE))
    rng, light = np.random.default_rng(3), np.full(truth.shape, counts, dtype=np.float32)
    noise = (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) / np.sqrt(2 * counts)
    noisy = np.asarray(truth + noise, dtype=np.complex64)
    smoothed = {strength: Smoothness.for_dose(light, strength)(noisy) for strength in STRENGTHS}
    best = max((_score(image, truth) for image in smoothed.values()), key=lambda scores: scores[0])
    start = smoothed[2.0]
    evidence = Evidence(light * (noisy - start) / 2, light, np.ones(truth.shape, dtype=np.float32))
    stepped = _score(start + correct(shipped.network, start, evidence), truth)
    return [*best, *(new - old for new, old in zip(stepped, best, strict=True))]


def _score(image: Canvas, truth: Canvas) -> list[float]:
    inside = tuple(slice(RIM, -RIM) for _ in range(2))
    image, truth = image[inside], truth[inside]
    image = image * (np.abs(truth) ** 2).sum() / (np.abs(image) * np.abs(truth)).sum()
    errors = np.abs(image - truth), np.angle(image * truth.conj()) / 2.4, (np.abs(image) - np.abs(truth)) / 0.4
    return [float(-10 * np.log10(np.mean(error**2))) for error in errors]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--network', type=Path, default=FILE)
    given = parser.parse_args()
    for overlap in OVERLAPS:
        for photons in PHOTONS:
            scans = [reconstruct(given.work, *pair, overlap, photons) for pair in CHOSEN_ON]
            errors = np.median([split_error(one, pistons=overlap <= 0) for one in scans], axis=0)
            print(f'{overlap:.0%} {photons:g}: {" / ".join(f"{error:.0f}" for error in errors)}', flush=True)
    shipped = read_network(given.network)
    for counts in (15.0, 150.0, 1500.0):
        rows = np.median([compare_with_smoothing(shipped, one, counts) for one in IDEAL], axis=0)
        print(f'ideal, {counts:g} counts: {" / ".join(f"{value:+.2f}" for value in rows)}', flush=True)


if __name__ == '__main__':
    main()
