"""Faults that people's scans have, one function each, put into a simulated scan that brings its true object.

A fault takes a scan and a generator of random numbers, and returns the scan as the user brings it; how much of it there
is can be said. What the detector sees is counted anew wherever the light changes, so that noise stays that of counting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_scans import PHOTONS, N, make_scan
from scipy import fft

from ptychopinn_reconstructor.diagnosis.turns import Turn
from ptychopinn_reconstructor.physics.probes import energy_diameter
from ptychopinn_reconstructor.physics.simulation.simulate import expected_counts
from ptychopinn_reconstructor.scan import Scan

Fault = Callable[[Scan, np.random.Generator], Scan]
Counts = NDArray[np.int64]


def with_counts(scan: Scan, counts: Counts) -> Scan:
    """The scan with other patterns."""
    return replace(scan, diffraction=counts.astype(np.uint32))


def counts_of(scan: Scan) -> Counts:
    """Its patterns, to be changed."""
    return np.asarray(scan.diffraction).astype(np.int64)


def clean(scan: Scan, rng: np.random.Generator) -> Scan:
    """As it is."""
    return scan


def one_mode_given(scan: Scan, rng: np.random.Generator) -> Scan:
    """The probe's first mode alone."""
    assert scan.probe is not None
    return replace(scan, probe=scan.probe[:1])


def hot_pixels(scan: Scan, rng: np.random.Generator, count: int = 20) -> Scan:
    """So many pixels that count a few thousand in every pattern."""
    counts = counts_of(scan)
    rows, cols = np.unravel_index(rng.choice(N * N, count, replace=False), (N, N))
    counts[:, rows, cols] += rng.poisson(rng.uniform(500, 5000, count), (len(counts), count))
    return with_counts(scan, counts)


def cosmic_hits(scan: Scan, rng: np.random.Generator, count: int = 3) -> Scan:
    """So many pixels of each pattern, others in each, that count hundreds or thousands."""
    counts = counts_of(scan)
    for pattern in counts:
        pattern.reshape(-1)[rng.choice(N * N, count, replace=False)] += rng.integers(200, 5000, count)
    return with_counts(scan, counts)


def beam_stop(scan: Scan, rng: np.random.Generator) -> Scan:
    """7 x 7 pixels about the zero frequency see nothing."""
    counts = counts_of(scan)
    counts[:, N // 2 - 3 : N // 2 + 4, N // 2 - 3 : N // 2 + 4] = 0
    return with_counts(scan, counts)


def cross(scan: Scan, rng: np.random.Generator, start: int = N // 2 - 1) -> Scan:
    """The gaps between four modules, 3 pixels wide."""
    counts = counts_of(scan)
    counts[:, start : start + 3, :] = counts[:, :, start : start + 3] = 0
    return with_counts(scan, counts)


def saturated(scan: Scan, rng: np.random.Generator) -> Scan:
    """Counts end at what half of the patterns exceed."""
    counts = counts_of(scan)
    return with_counts(scan, np.minimum(counts, int(np.median(counts.max(axis=(1, 2))))))


def mask_inverted(scan: Scan, rng: np.random.Generator, count: int = 30) -> Scan:
    """A mask that is True where a pixel is good, with so many that are not."""
    bad = np.ones((N, N), bool)
    bad[rng.integers(0, N, count), rng.integers(0, N, count)] = False
    return replace(scan, bad_pixels=bad)


def normalized(scan: Scan, rng: np.random.Generator, divisor: float = 1000.0) -> Scan:
    """Counts that were divided by a constant."""
    return replace(scan, diffraction=(counts_of(scan) / divisor).astype(np.float32))


def blank_frames(scan: Scan, rng: np.random.Generator, share: float = 0.05) -> Scan:
    """So many patterns without light: a closed shutter."""
    counts = counts_of(scan)
    counts[rng.choice(len(counts), round(share * len(counts)), replace=False)] = 0
    return with_counts(scan, counts)


def detector_off(scan: Scan, rng: np.random.Generator, shift: tuple[int, int] = (3, -3)) -> Scan:
    """The zero frequency lies so many rows below its place, and columns right of it."""
    return with_counts(scan, np.roll(counts_of(scan), shift, axis=(1, 2)))


def background(scan: Scan, rng: np.random.Generator, counts: float = 0.5) -> Scan:
    """Stray light: so many counts in every pixel."""
    return with_counts(scan, counts_of(scan) + rng.poisson(counts, scan.diffraction.shape))


def positions_off(scan: Scan, rng: np.random.Generator, pixels: float = 2.0) -> Scan:
    """Positions wrong by so much along each axis, rms."""
    return replace(scan, positions=scan.positions + rng.normal(0, pixels, scan.positions.shape))


def positions_lost(scan: Scan, rng: np.random.Generator, count: int = 2) -> Scan:
    """So many positions far from all others, side by side."""
    positions = scan.positions.copy()
    positions[rng.choice(len(positions), count, replace=False)] += [3000.0, -2500.0]
    return replace(scan, positions=positions)


def stage_stuck(scan: Scan, rng: np.random.Generator, count: int = 20) -> Scan:
    """So many patterns one after another have the position of the first of them."""
    positions, start = scan.positions.copy(), rng.integers(0, len(scan.positions) - count)
    positions[start : start + count] = positions[start]
    return replace(scan, positions=positions)


def defocused(probe: NDArray[np.complex64], defocus: float) -> NDArray[np.complex64]:
    """A probe (modes, N, N) propagated, in pi rad at one cycle per pixel."""
    k2 = np.add.outer(*[((np.arange(N) - N // 2) / N) ** 2] * 2)
    pupil = fft.fftshift(fft.fft2(fft.ifftshift(probe, (-2, -1))), (-2, -1)) * np.exp(1j * np.pi * defocus * k2)
    return np.asarray(fft.fftshift(fft.ifft2(fft.ifftshift(pupil, (-2, -1))), (-2, -1)), dtype=np.complex64)


def defocus_wrong(scan: Scan, rng: np.random.Generator, defocus: float = 25.0) -> Scan:
    """The probe propagated by so much, by default more than half of its own defocus."""
    return replace(scan, probe=defocused(light(scan), defocus))


def probe_weak(scan: Scan, rng: np.random.Generator, factor: float = 10.0) -> Scan:
    """A probe of so many times less power than the beam had."""
    return replace(scan, probe=(light(scan) / np.sqrt(factor)).astype(np.complex64))


def defocus_drifting(scan: Scan, rng: np.random.Generator, share: float = 0.4, defocus: float = 40.0) -> Scan:
    """The probe's defocus changes over the scan by so much of its own, the probe given is that of its middle."""
    patterns = np.empty(scan.diffraction.shape)
    for part in np.array_split(np.arange(len(scan.positions)), 18):
        off = share * defocus * (part.mean() / (len(scan.positions) - 1) - 0.5)
        patterns[part] = exact(scan, defocused(light(scan), off), part)
    return with_counts(scan, rng.poisson(patterns))


def blurred(scan: Scan, rng: np.random.Generator, pixels: float = 0.7) -> Scan:
    """Each pixel of the detector sees some of its neighbors' light: a Gaussian point spread."""
    reach = np.arange(-3, 4)
    kernel = np.exp(-(reach**2) / (2 * pixels**2)) / np.exp(-(reach**2) / (2 * pixels**2)).sum()
    return with_counts(scan, spread(spread(counts_of(scan), kernel, 1, rng), kernel, 2, rng))


def spread(counts: Counts, kernel: NDArray[np.float64], axis: int, rng: np.random.Generator) -> Counts:
    """Each photon moved along an axis by a pixel number drawn from a kernel: what was Poisson distributed stays so."""
    left, moved, share = counts.copy(), np.zeros_like(counts), 1.0
    for offset, weight in enumerate(kernel, start=-(len(kernel) // 2)):
        some = rng.binomial(left, min(1.0, weight / share))
        left, share = left - some, max(share - weight, 1e-12)
        moved += np.roll(some, offset, axis=axis)
    return np.asarray(moved + left)


def scattered(scan: Scan, rng: np.random.Generator, counts: float = 2.0) -> Scan:
    """A smooth halo about the zero frequency of so many counts a pixel in the mean."""
    halo = np.exp(-np.add.outer(*[(np.arange(N) - N // 2) ** 2] * 2) / (2 * (N / 5) ** 2))
    return with_counts(scan, counts_of(scan) + rng.poisson(counts * halo / halo.mean(), scan.diffraction.shape))


def scaled(scan: Scan, rng: np.random.Generator, factor: float = 1.02) -> Scan:
    """Steps that are not as long as they are said to be."""
    return mapped(scan, factor * np.eye(2))


def rotated(scan: Scan, rng: np.random.Generator, degrees: float = 1.5) -> Scan:
    """Stages that are turned against the detector."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return mapped(scan, np.array([[c, -s], [s, c]]))


def mapped(scan: Scan, matrix: NDArray[np.float64]) -> Scan:
    """Positions under a linear map about their middle."""
    middle = scan.positions.mean(axis=0)
    return replace(scan, positions=(scan.positions - middle) @ matrix.T + middle)


def positions_turned(scan: Scan, rng: np.random.Generator, turn: Turn) -> Scan:
    """Axes of the stage exchanged or reversed."""
    return replace(scan, positions=turn.places(scan.positions))


def detector_turned(scan: Scan, rng: np.random.Generator, turn: Turn) -> Scan:
    """Rows and columns exchanged or read from the other end, where the zero frequency lies beside its place then."""
    return with_counts(scan, turn.images(counts_of(scan)))


def swapped(scan: Scan, rng: np.random.Generator) -> Scan:
    """x and y of the positions are exchanged."""
    return positions_turned(scan, rng, Turn(transposed=True))


def flipped(scan: Scan, rng: np.random.Generator) -> Scan:
    """The detector's columns are read from the other end, the zero frequency where it belongs."""
    turned = detector_turned(scan, rng, Turn(columns_reversed=True))
    return with_counts(scan, np.roll(counts_of(turned), 1, axis=2))


def transposed(scan: Scan, rng: np.random.Generator) -> Scan:
    """The detector's rows are its columns."""
    return detector_turned(scan, rng, Turn(transposed=True))


def conjugate(scan: Scan, rng: np.random.Generator) -> Scan:
    """The probe of another sign of the phase."""
    return replace(scan, probe=light(scan).conj())


def probe_off(scan: Scan, rng: np.random.Generator, pixels: int = 3) -> Scan:
    """The probe lies so far beside the middle of its window."""
    return replace(scan, probe=np.roll(light(scan), pixels, axis=-1))


def spot(scan: Scan, rng: np.random.Generator) -> Scan:
    """Of the probe nothing is known but its size and its power: a Gaussian spot."""
    wide = energy_diameter(light(scan)) / 4
    blob = np.exp(-np.add.outer(*[(np.arange(N) - (N - 1) / 2) ** 2] * 2) / (2 * wide**2))
    power = float((np.abs(light(scan)) ** 2).sum())
    return replace(scan, probe=(blob * np.sqrt(power / (blob**2).sum()))[None].astype(np.complex64))


def both(first: Fault, second: Fault) -> Fault:
    """Two faults at once: the second in the scan that the first has made."""
    return lambda scan, rng: second(first(scan, rng), rng)


def light(scan: Scan) -> NDArray[np.complex64]:
    """The probe that a simulated scan brings."""
    assert scan.probe is not None
    return np.asarray(scan.probe)


def exact(scan: Scan, probe: NDArray[Any], part: NDArray[np.int64]) -> NDArray[np.float64]:
    """Patterns without counting noise, of the scan's true object under a probe."""
    assert scan.object is not None
    return np.concatenate(list(expected_counts(np.asarray(scan.object), probe, scan.positions[part])))


def brighten(counts: Counts, power: NDArray[np.float64], rng: np.random.Generator) -> Counts:
    """Photons of a beam of another power: some are left out, so that counting noise stays what it is, or more come."""
    kept = rng.binomial(counts, np.broadcast_to(np.minimum(power, 1), counts.shape))
    return np.asarray(kept + rng.poisson(counts * np.maximum(power - 1, 0)))


def flickering(scan: Scan, rng: np.random.Generator, factor: float = 2.0) -> Scan:
    """The beam's power goes up and down by so much between its extremes."""
    power = np.exp(rng.uniform(-np.log(factor), np.log(factor), len(scan.positions)) / 2)
    return with_counts(scan, brighten(counts_of(scan), power[:, None, None], rng))


def flickering_rms(scan: Scan, rng: np.random.Generator, rms: float = 0.1) -> Scan:
    """The beam's power scatters by so much from pattern to pattern."""
    power = np.clip(rng.normal(1, rms, len(scan.positions)), 0.1, None)
    return with_counts(scan, brighten(counts_of(scan), power[:, None, None], rng))


def drifting(scan: Scan, rng: np.random.Generator, loss: float = 0.2) -> Scan:
    """The beam loses so much of its power from the first pattern to the last."""
    power = np.linspace(1, 1 - loss, len(scan.positions))
    return with_counts(scan, brighten(counts_of(scan), power[:, None, None], rng))


def two_samples(scan: Scan, rng: np.random.Generator) -> Scan:
    """Every other pattern is of another sample at the same place."""
    other = counts_of(make_scan('star', 'ring', overlap=60.0, photons=PHOTONS))
    counts = counts_of(scan)
    counts[::2] = other[::2]
    return with_counts(scan, counts)
