"""Patterns of many pixels with fewer, for trials: the middle of the detector, where nearly all of the light is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..scan import Scan

SMALL, LARGE = 128, 256  # pixels: a trial of fewer is short; one of more is too long whatever is lost
LOST = 0.0005  # share of the counts outside, which the cropped patterns mistake for others


def crop_scan(scan: Scan) -> Scan:
    """A small scan in memory with the smallest middle of its patterns, `SMALL` pixels or more, that holds their light.

    Object pixels grow as the detector shrinks, so that positions and probe are on another grid: not to be mended back.
    """
    side = scan.n_pixels
    if side <= SMALL or side % 2:
        return scan
    total = scan.counts(slice(None)).sum(axis=0, dtype=np.float64)
    if scan.bad_pixels is not None:
        total[scan.bad_pixels] = 0
    sizes = [size for size in _sizes(side) if size >= LARGE or _outside(total, size) <= LOST]
    return _crop(scan, min(sizes)) if sizes else scan


def _sizes(side: int) -> list[int]:
    """Sides that are tried: those between powers of two, too, for they are quick to transform."""
    known = [size for power in range(7, 14) for size in (2**power, 3 * 2 ** (power - 1))]
    return [size for size in known if SMALL <= size < side]


def _outside(total: NDArray[np.float64], size: int) -> float:
    start = (len(total) - size) // 2
    inside = total[start : start + size, start : start + size].sum()
    return float(1 - inside / max(total.sum(), 1e-12))


def _crop(scan: Scan, size: int) -> Scan:
    side, start = scan.n_pixels, (scan.n_pixels - size) // 2
    middle = slice(start, start + size)
    probe = None
    if scan.probe is not None:
        spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(scan.probe, (-2, -1)), norm='ortho'), (-2, -1))
        cut = np.fft.ifftshift(spectrum[:, middle, middle], (-2, -1))
        probe = np.fft.fftshift(np.fft.ifft2(cut, norm='ortho'), (-2, -1)).astype(np.complex64)
    return replace(
        scan,
        diffraction=np.ascontiguousarray(scan.diffraction[:, middle, middle]),
        bad_pixels=None if scan.bad_pixels is None else scan.bad_pixels[middle, middle],
        probe=probe,
        positions=scan.positions * (size / side),
    )
