"""Calibrate the error bars of refined objects on drawn scans, and tell what they are worth on others.

    python benchmarks/error_bars.py draw FOLDER KIND FIRST LAST    refine scans number FIRST to LAST - 1 of a kind
    python benchmarks/error_bars.py fit FOLDER                     the law: its slopes from the kinds in `CALIBRATION`,
                                                                   its constant from them and the even ones of `kept`
    python benchmarks/error_bars.py check FOLDER                   what it is worth on the odd numbers of `kept`

Kinds: `faulty` (a probe, positions, background or beam that is wrong in one of two), `clean`, `passes` (clean, as many
passes as are drawn), `network` (from an object like a network's), each of procedural objects, eight probes, 1e3 to 1e6
photons, 27 to 68 % overlap, 81 to 209 patterns; and `kept`: eight objects of photographs and three probes of
`quality_scans`, at 60, 45 and 30 % overlap and 1e3 to 1e6 photons. The slopes need variety, of which procedural scans
have more than samples have; the constant (split conformal prediction) is a compromise of both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from quality_scans import KINDS, make_scan
from scipy import ndimage, optimize

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.arrays import NUMPY
from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.positions import displace_scan
from ptychopinn_reconstructor.physics.engine.prior import mean_dose
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.engine.update import Engine
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.probes import CONFINED, _from_pupil, energy_diameter, probe_modes
from ptychopinn_reconstructor.physics.sampling import scan_overlap
from ptychopinn_reconstructor.physics.scoring.error_bars import (
    LAW,
    Law,
    Quantity,
    error_radius,
    find_terms,
    local_quantities,
)
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.objects import make_object, random_object
from ptychopinn_reconstructor.physics.simulation.simulate import BORDER, raster, simulate
from ptychopinn_reconstructor.physics.simulation.textures import TEXTURES
from ptychopinn_reconstructor.reconstruction.refinement import Start, classify_start, refinement_options
from ptychopinn_reconstructor.scan import Scan

N = 64
CALIBRATION = ('faulty', 'clean', 'passes', 'network')
STREAMS = {'faulty': 0, 'network': 2, 'clean': 3, 'passes': 4}
FAULTS = ('none', 'none', 'none', 'probe', 'positions', 'background', 'beam')
MENDED = ('none', 'background', 'beam')  # what the engine finds by itself; with what it does not the law is not fitted
PASSES = (2, 3, 5, 8, 12, 20, 30)
KEPT_PROBES = ('ring', 'window', 'measured', 'three modes')
WORST = 2.25  # times counting noise: a misfit that the verdict calls bad, where no law holds
SAMPLED = 600  # pixels of a scan that the fit sees
SMOOTHING = 5.0  # pixels, of both maps before they are correlated
SPREAD: tuple[Quantity, ...] = ('detail', 'step')  # what spreads the error over the canvas
LEVEL: tuple[Quantity, ...] = ('step', 'change')  # what sets its level


def _wide(n: int) -> NDArray[np.complex128]:
    """A probe that fills the window, its phase that of a diffuser."""
    x = np.arange(n) - n / 2
    phase = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(n, n)), 4)
    r = np.hypot(x[:, None], x)
    return np.asarray(np.exp(1j * (phase * 2.0 / phase.std() + r**2 / 90)) / (1 + np.exp((r - 28) / 1.5)))


PROBES: Mapping[str, Callable[[int], NDArray[np.complex128]]] = {
    'annular': lambda n: _from_pupil(n, outer=14.0, inner=5.0, defocus=45.0),
    'wide': _wide,
    'sharp': lambda n: _from_pupil(n, outer=16.0, inner=0.0, defocus=60.0),
    **{name: CONFINED[name] for name in ('defocused', 'zone_plate', 'airy', 'gaussian', 'flat_top')},
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A scan, the true object (H, W) on the grid of the true positions (n, 2), and what it is."""

    scan: Scan
    truth: NDArray[np.complex64]
    positions: NDArray[np.float64]
    facts: dict[str, float | str]
    rng: Generator


# drawing


def draw(kind: str, number: int) -> Drawn:
    """A scan of a calibrating kind."""
    rng = np.random.default_rng([20, STREAMS[kind], number])
    photons, overlap = float(10 ** rng.uniform(3, 6)), float(rng.uniform(0.27, 0.68))
    count = int(rng.integers(*((120, 210) if kind == 'faulty' else (81, 145))))
    name = [*PROBES][int(rng.integers(len(PROBES)))]
    light = PROBES[name](N).astype(complex)
    if rng.random() < 0.2:
        light = probe_modes(light, int(rng.integers(2, 4)))
    step = energy_diameter(light if light.ndim == 2 else light[0]) * (1 - overlap)
    centers = raster(count, step, min(2.0, 0.25 * step), N, rng)
    height, width = (int(side) + 1 for side in np.ceil(centers.max(axis=0) + (N - 1) / 2 + BORDER))
    if rng.random() < 0.6:
        what, truth = 'random', random_object(rng, (height, width))
    else:
        what = str(rng.choice([*TEXTURES, 'mixed']))
        truth = make_object(what, (height, width), rng)
    fault = str(rng.choice(FAULTS)) if kind in ('faulty', 'network') else 'none'
    scan = simulate(positions=centers, photons=photons, object=truth, probe=light, seed=number)
    facts: dict[str, float | str] = {'object': what, 'probe': name, 'photons': photons, 'fault': fault}
    return Drawn(spoil(scan, fault, photons, rng), truth, np.asarray(scan.positions), facts, rng)


def spoil(scan: Scan, fault: str, photons: float, rng: Generator) -> Scan:
    """The scan with one thing wrong, slightly, by a drawn amount."""
    counts, probe, positions = (np.array(values) for values in (scan.diffraction, scan.probe, scan.positions))
    if fault == 'probe':
        k = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N))
        defocus = np.exp(1j * np.pi * 240 * 10 ** rng.uniform(-2.0, -0.7) * k**2)
        probe = np.fft.ifft2(np.fft.fft2(probe) * defocus).astype(np.complex64)
    elif fault == 'positions':
        positions = positions + 10 ** rng.uniform(-1.0, 0) * rng.normal(size=positions.shape)
    elif fault == 'background':
        counts = counts + rng.poisson(10 ** rng.uniform(-2, 0) * photons / 1e4, counts.shape).astype(counts.dtype)
    elif fault == 'beam':
        power = np.exp(rng.uniform(0.02, 0.1) * rng.normal(size=len(counts)))[:, None, None]
        drawn = rng.poisson(counts * power) if photons < 3e4 else np.rint(counts * power)
        counts = drawn.astype(counts.dtype)
    return Scan(diffraction=counts, positions=positions, probe=probe)


def kept(number: int) -> Drawn:
    """Scan `number` of those for the check: objects and probes of `quality_scans`."""
    overlap = (0.60, 0.45, 0.30)[number // 16]
    photons = (1e3, 1e4, 1e5, 1e6)[number % 16 // 4]
    what, name = KINDS[(number + number // 8) % 8], KEPT_PROBES[(number // 3 + number % 4) % 4]
    scan = make_scan(what, name, overlap=100 * overlap, photons=photons, patterns=196)
    facts: dict[str, float | str] = {'object': what, 'probe': name, 'photons': photons, 'fault': 'none'}
    assert scan.object is not None
    return Drawn(scan, np.asarray(scan.object), np.asarray(scan.positions), facts, np.random.default_rng(number))


def like_a_network(drawn: Drawn, prepared: PreparedScan) -> NDArray[np.complex64]:
    """The true object on the canvas, blurred, with slow phase errors and grain."""
    rng, shape = drawn.rng, prepared.layout.shape
    rows, cols = (round(-float(offset)) for offset in prepared.layout.origin)
    canvas = drawn.truth[rows : rows + shape[0], cols : cols + shape[1]].astype(complex)
    canvas = np.pad(canvas, [(0, a - b) for a, b in zip(shape, canvas.shape, strict=True)], mode='edge')

    def noise(sigma: float) -> NDArray[np.float64]:
        found = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
        return np.asarray(found / found.std())

    sigma = rng.uniform(0.7, 2.0)
    blurred = ndimage.gaussian_filter(canvas.real, sigma) + 1j * ndimage.gaussian_filter(canvas.imag, sigma)
    blurred *= np.exp(1j * rng.uniform(0.03, 0.2) * noise(rng.uniform(6, 25)))
    blurred += rng.uniform(0.02, 0.1) * (noise(1.0) + 1j * noise(1.0)) / 1.4
    return blurred.astype(np.complex64)


def measure(kind: str, number: int) -> dict[str, NDArray[np.generic] | float | str]:
    """Refine a scan as `ptychopinn refine` does: all that error bars are made of, and the true error."""
    drawn = kept(number) if kind == 'kept' else draw(kind, number)
    prepared = prepare_scan(drawn.scan)
    start = np.ones(prepared.layout.shape, np.complex64)
    section = Config().refinement
    if kind in ('network', 'passes') and drawn.rng.random() < 0.5:
        section = section.model_copy(update={'passes': int(drawn.rng.choice(PASSES))})
    begin: Start = 'empty'
    if kind == 'network':
        start = like_a_network(drawn, prepared)
        begin = classify_start(prepared, start)
    refined = refine(prepared, start, refinement_options(section, prepared, start=begin))
    found = replace(prepared, background=refined.background, intensity=refined.intensity, variation=refined.variation)
    return {**pack(found, refined, drawn), **drawn.facts, 'kind': kind, 'number': number}


def pack(prepared: PreparedScan, refined: Refined, drawn: Drawn) -> dict[str, NDArray[np.generic] | float]:
    """What `load` needs; the error is that of `compare`, on its area."""
    placed = prepared if refined.displacements is None else displace_scan(prepared, refined.displacements)
    step, light = Engine(placed, refined.canvas, refined.probe, FarFieldStep.for_scan(placed, NUMPY)).lacking_object(
        np.arange(len(placed))
    )
    compared = compare(refined.canvas, placed.layout.origin, drawn.truth, (0.0, 0.0), drawn.positions)
    corner = [side.start + round(offset) for side, offset in zip(compared.area, placed.layout.origin, strict=True)]
    assert refined.change is not None
    return {
        'canvas': refined.canvas,
        'step': step,
        'light': light,
        'change': refined.change,
        'error': (compared.result / compared.amplitude_ratio - compared.truth).astype(np.complex64),
        'amplitude_error': np.abs(compared.result) / compared.amplitude_ratio - np.abs(compared.truth),
        'phase_error': np.angle(compared.result * compared.truth.conj()),
        'corner': np.asarray(corner),
        'passes': len(refined.residuals),
        'overlap': scan_overlap(placed.positions, refined.probe),
        'noise_ratio': residuals(placed, refined.canvas, refined.probe).noise_ratio,
    }


# fitting


@dataclass(frozen=True, eq=False)
class Measured:
    """The local quantities and the true error (h, w) on the compared area of a scan, and what it is."""

    quantities: Mapping[Quantity, NDArray[np.float64]]
    error: NDArray[np.float64]
    amplitude_error: NDArray[np.float64]
    phase_error: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    passes: int
    noise_ratio: float
    facts: Mapping[str, float | str]


def load(path: Path) -> Measured:
    """What `draw` has left in a file."""
    with np.load(path) as file:
        values = dict(file)
    shape = values['error'].shape
    area = tuple(slice(int(a), int(a) + size) for a, size in zip(values['corner'], shape, strict=True))
    light = values['light']
    whole = local_quantities(values['canvas'], light, values['step'], values['change'], mean_dose(light))
    names = ('kind', 'object', 'probe', 'fault', 'photons', 'overlap', 'number')
    return Measured(
        {name: found[area] for name, found in whole.items()},
        np.abs(values['error']).astype(np.float64),
        np.abs(values['amplitude_error']),
        np.abs(values['phase_error']),
        np.abs(values['canvas'][area]).astype(np.float64),
        int(values['passes']),
        float(values['noise_ratio']),
        {name: values[name].item() for name in names},
    )


def rows(scan: Measured, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """The terms of log u at pixels `index` (k,), (k, terms): constant, passes, misfit, levels, spreads."""
    found = find_terms(scan.quantities, np.ones(scan.error.shape, bool), scan.passes, scan.noise_ratio)
    whole = [1.0, found.passes, found.misfit, *(found.level[name] for name in LEVEL)]
    terms = [np.full(len(index), value) for value in whole]
    return np.stack([*terms, *(found.spread[name][index] for name in SPREAD)], axis=1)


def fit(scans: Sequence[Measured], ridge: float = 3e-3) -> Law:
    """The law whose radius the errors stay below in `COVERAGE` of the pixels, each scan weighing the same."""
    rng, parts, errors, weights = np.random.default_rng(0), [], [], []
    for scan in scans:
        index = rng.choice(scan.error.size, min(SAMPLED, scan.error.size), replace=False)
        parts.append(rows(scan, index))
        errors.append(np.log(np.maximum(scan.error.ravel()[index], 1e-6)))
        weights.append(np.full(len(index), 1 / len(index) / len(scans)))
    terms, logs, weight = (np.concatenate(values) for values in (parts, errors, weights))
    middle = terms[:, 1:].mean(axis=0)
    terms[:, 1:] -= middle
    found = quantile_regression(terms, logs, weight, ridge)
    found[0] += weighted_quantile(logs - terms @ found, weight) - middle @ found[1:]
    constant, passes, misfit, *others = (round(float(value), 3) for value in found)
    level, spread = others[: len(LEVEL)], others[len(LEVEL) :]
    return Law(constant, passes, misfit, dict(zip(LEVEL, level, strict=True)), dict(zip(SPREAD, spread, strict=True)))


def quantile_regression(
    terms: NDArray[np.float64], values: NDArray[np.float64], weight: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """Coefficients under which a share 0.9 of the values lies below `terms` times them; kinks of the loss rounded."""
    share, width = 0.9, 0.05

    def loss(coefficients: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        left = values - terms @ coefficients
        below = np.logaddexp(0, left / width) * width - left
        slope = weight * (share - 1 + 1 / (1 + np.exp(-np.clip(left / width, -50, 50))))
        penalty = np.r_[0, coefficients[1:]]
        return float(
            (weight * (share * left + below)).sum() + ridge * (penalty**2).sum()
        ), 2 * ridge * penalty - slope @ terms

    start = np.zeros(terms.shape[1])
    start[0] = weighted_quantile(values, weight)
    return np.asarray(optimize.minimize(loss, start, jac=True, method='L-BFGS-B', options={'maxiter': 300}).x)


def weighted_quantile(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The 0.9 quantile."""
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, 0.9 * total[-1])])


def conform(law: Law, groups: Sequence[Sequence[Measured]]) -> Law:
    """The law with the constant under which 90 % of the pixels are covered, each group and each scan in it weighing the
    same."""
    logs, weights = [], []
    for scan, weight in ((scan, 1 / len(group)) for group in groups for scan in group):
        radius = error_radius(scan.quantities, np.ones(scan.error.shape, bool), scan.passes, scan.noise_ratio, law)
        logs.append(np.log(np.maximum(scan.error, 1e-6) / radius).ravel())
        weights.append(np.full(scan.error.size, weight / scan.error.size))
    shift = weighted_quantile(np.concatenate(logs), np.concatenate(weights))
    return replace(law, constant=round(law.constant + shift, 3))


# judging


def judge(scan: Measured, law: Law = LAW) -> dict[str, float]:
    """Coverage, of the thirds with the shortest to the longest bars too; correlations; error bar to true quantile."""
    everywhere = np.ones(scan.error.shape, bool)
    radius = error_radius(scan.quantities, everywhere, scan.passes, scan.noise_ratio, law).astype(np.float64)
    inside, thirds = scan.error <= radius, np.quantile(radius, (1 / 3, 2 / 3))
    third = np.digitize(radius, thirds)
    smooth = [ndimage.gaussian_filter(values, SMOOTHING).ravel() for values in (radius, scan.error)]
    return {
        'coverage': float(inside.mean()),
        **{f'third_{number}': float(inside[third == number].mean()) for number in range(3)},
        'correlation': float(np.corrcoef(smooth[0], smooth[1])[0, 1]),
        'correlation_of_pixels': float(np.corrcoef(radius.ravel(), scan.error.ravel())[0, 1]),
        'bar_to_quantile': float(np.median(radius) / np.quantile(scan.error, 0.9)),
        'phase_coverage': float((scan.phase_error <= radius / np.maximum(scan.amplitude, 1e-3)).mean()),
        'amplitude_share': float(np.quantile(scan.amplitude_error / radius, 0.9)),
    }


def summarize(scans: Sequence[Measured], law: Law = LAW) -> dict[str, object]:
    """Mean and quantiles of what `judge` finds."""
    found = [judge(scan, law) for scan in scans]
    values = {key: np.array([one[key] for one in found]) for key in found[0]}
    return {
        'scans': len(scans),
        'mean': {key: round(float(value.mean()), 3) for key, value in values.items()},
        'quantiles 5, 25, 50, 75, 95 %': {
            key: np.quantile(value, (0.05, 0.25, 0.5, 0.75, 0.95)).round(3).tolist() for key, value in values.items()
        },
        'correlation >= .5': round(float((values['correlation'] >= 0.5).mean()), 3),
    }


def main() -> None:
    """Draw, fit or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('draw', 'fit', 'check'))
    parser.add_argument('folder', type=Path)
    parser.add_argument('kind', nargs='?', choices=(*CALIBRATION, 'kept'))
    parser.add_argument('first', nargs='?', type=int)
    parser.add_argument('last', nargs='?', type=int)
    options = parser.parse_args()
    if options.what == 'draw':
        options.folder.mkdir(parents=True, exist_ok=True)
        for number in range(options.first, options.last):
            path = options.folder / f'{options.kind}_{number:04d}.npz'
            if not path.exists():
                values: dict[str, Any] = measure(options.kind, number)
                np.savez(path, **values)
        return
    kept_apart = load_all(options.folder, ('kept',))
    law = LAW
    if options.what == 'fit':
        drawn = load_all(options.folder, CALIBRATION)
        law = conform(fit(drawn), (drawn, [scan for scan in kept_apart if is_even(scan)]))
    checked = [scan for scan in kept_apart if not is_even(scan)]
    json.dump({'law': vars(law), **summarize(checked, law)}, sys.stdout, indent=1)


def load_all(folder: Path, kinds: Sequence[str]) -> list[Measured]:
    """The scans of these kinds whose model the engine has, and fits."""
    scans = [load(path) for kind in kinds for path in sorted(folder.glob(f'{kind}_*.npz'))]
    return [scan for scan in scans if scan.noise_ratio < WORST and scan.facts['fault'] in MENDED]


def is_even(scan: Measured) -> bool:
    """Whether a scan's number is even."""
    return int(scan.facts['number']) % 2 == 0


if __name__ == '__main__':
    main()
