"""What the learned step gains on scans it was never trained on: `python -m learning.check --work FOLDER`.

Scores are those of `compare`, and `detail`: -20 lg of the rms complex error, phase slower than 10 pixels and the ratio
of amplitudes set aside. `CHOSEN_ON` has chosen what is constant in the step; `UNSEEN` has not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from quality_scans import OBJECTS, annular, measured, texture, transmission
from scipy import fft, ndimage

from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine, scan_dose
from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.illumination import illumination
from ptychopinn_reconstructor.physics.learned.shipped import FILE, read_network
from ptychopinn_reconstructor.physics.learned.step import take_step
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.probes import energy_diameter, make_probe
from ptychopinn_reconstructor.physics.sampling import scan_overlap
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.simulate import BORDER, raster, simulate
from ptychopinn_reconstructor.scan import Scan

from .states import slow_phase, truth_on_canvas

N, EXTENT, MOST = 64, 170, 400  # pixels of a pattern and between the outermost centers; patterns
Canvas = NDArray[np.complex64]
Image = NDArray[np.float64]
Shape = tuple[int, int]
SCORES = ('phase', 'amplitude', 'area', 'detail')
PERIOD, MISSING = 9.0, (2, 3)  # of the lattice: pixels, and the site that has no particle


def wide() -> NDArray[np.complex128]:
    """A disk behind a diffuser."""
    x = np.hypot(*np.indices((N, N)) - N / 2)
    phase = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(N, N)), 4)
    return np.asarray(np.exp(1j * (2 * phase / phase.std() + x**2 / 90)) / (1 + np.exp((x - 30) / 1.5)))


def speckled() -> NDArray[np.complex128]:
    """A focus of a pupil of random phase: speckle without any center."""
    rng = np.random.default_rng(21)
    k = np.hypot(*np.indices((N, N)) - N // 2)
    phase = ndimage.gaussian_filter(rng.normal(size=(N, N)), 2.5)
    pupil = np.clip(16.5 - k, 0, 1) * np.exp(2.5j * phase / phase.std())
    spot = fft.fftshift(fft.ifft2(fft.ifftshift(pupil)))
    return np.asarray(spot / (1 + np.exp((np.hypot(*np.indices((N, N)) - N // 2) - 26) / 1.5)))


def site(shape: Shape, row: int, col: int) -> tuple[float, float]:
    """Where a site of the lattice is, [row, column]."""
    return shape[0] / 2 + row * PERIOD * 0.866, shape[1] / 2 + (col + (row % 2) / 2) * PERIOD


def lattice(shape: Shape) -> Canvas:
    """Particles on a hexagonal lattice, one of them missing."""
    y, x = np.indices(shape)
    image = np.zeros(shape)
    for row, col in np.ndindex(121, 121):
        at = site(shape, row - 60, col - 60)
        if (row - 60, col - 60) == MISSING or not all(-9 < c < size + 9 for c, size in zip(at, shape, strict=True)):
            continue
        near = tuple(slice(max(0, int(c) - 7), int(c) + 8) for c in at)
        image[near] += np.exp(-((y[near] - at[0]) ** 2 + (x[near] - at[1]) ** 2) / (2 * 1.8**2))
    image = np.clip(image, 0, 1)
    return transmission(1 - 0.9 * image, image)


def bars(shape: Shape) -> Canvas:
    """A test chart: groups of bars of 3 to 12 pixels a period, a bar missing in each fifth group."""
    image = np.zeros(shape)
    for number, (row, col) in enumerate(np.ndindex(shape[0] // 40, shape[1] // 40)):
        period = (3, 4, 5, 6, 8, 12)[number % 6]
        across = np.arange(30) // (period / 2) % 2 < 1
        across &= (np.arange(30) // period != 2) | (number % 5 > 0)
        block = np.broadcast_to(across, (30, 30))
        image[row * 40 + 5 : row * 40 + 35, col * 40 + 5 : col * 40 + 35] = block if number % 2 else block.T
    image = ndimage.gaussian_filter(image, 0.6)
    return transmission(1 - 0.8 * image, image)


def text(shape: Shape) -> Canvas:
    """A page of text in amplitude and phase."""
    image = texture('text', shape)
    return transmission(image, image)


CHECKED: Mapping[str, Callable[[Shape], Canvas]] = {**OBJECTS, 'text': text, 'lattice': lattice, 'bars': bars}
PROBES: Mapping[str, Callable[[], NDArray[np.complex128]]] = {
    'ring': partial(annular, 10.0, 5.0, 40.0),
    'window': partial(annular, 20.0, 6.0, 90.0),
    'measured': measured,
    'wide': wide,
    'speckled': speckled,
    'A': lambda: make_probe('defocused', N)[0],
}
CHOSEN_ON = (
    ('page', 'measured'), ('coins', 'ring'), ('star', 'window'), ('cell', 'wide'), ('lattice', 'A'), ('camera', 'ring'),
)  # fmt: skip
UNSEEN = (
    ('grass', 'measured'), ('text', 'window'), ('brick', 'ring'), ('camera', 'A'), ('mixed', 'wide'),
    ('bars', 'measured'), ('lattice', 'speckled'), ('page', 'speckled'),
)  # fmt: skip
OVERLAPS, PHOTONS = (0.6, 0.3, 0.2, 0.0), (1e3, 1e4, 1e5)


class Checked(NamedTuple):
    """A scan, prepared, and the engine's object with the CPU seconds that it took."""

    scan: Scan
    prepared: PreparedScan
    canvas: Canvas
    seconds: float


def draw_scan(object_: str, probe: str, overlap: float, photons: float) -> Scan:
    """A scan whose spots overlap by so much."""
    light = PROBES[probe]()
    step = (1 - overlap) * energy_diameter(light)
    count = int(np.clip((EXTENT / step + 1) ** 2, 49, MOST))
    centers = raster(count, step, min(2.0, 0.25 * step), N, np.random.default_rng(5))
    height, width = (np.ceil(centers.max(axis=0) + (N - 1) / 2 + BORDER).astype(int) + 1).tolist()
    truth = CHECKED[object_]((height, width))
    return simulate(positions=centers, photons=photons, object=truth, probe=light, seed=11)


def reconstruct(folder: Path, object_: str, probe: str, overlap: float, photons: float) -> Checked:
    """The engine's object of a scan, kept in the folder."""
    scan = draw_scan(object_, probe, overlap, photons)
    prepared = prepare_scan(scan)
    path = folder / f'engine_{object_}_{probe}_{overlap:g}_{photons:g}.npz'
    if not path.exists():
        begun = time.process_time()
        options = RefineOptions.for_scan(
            dose=scan_dose(prepared),
            overlap=scan_overlap(prepared.positions, prepared.probe),
            background='off',
            intensity='off',
        )
        canvas = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options).canvas
        np.savez(path, canvas=canvas, seconds=time.process_time() - begun)
    with np.load(path) as kept:
        return Checked(scan, prepared, kept['canvas'], float(kept['seconds']))


def score(checked: Checked, canvas: Canvas, *, pistons: bool) -> dict[str, float]:
    """`SCORES` of a canvas."""
    scan, prepared = checked.scan, checked.prepared
    assert scan.object is not None
    origin = prepared.layout.origin
    found = compare(canvas, origin, scan.object, scan.object_origin, scan.positions, margin=4, pistons=pistons)
    values = found.phase_psnr, found.amplitude_psnr, found.frc.area, measure_detail(checked, canvas)
    return dict(zip(SCORES, map(float, values), strict=True))


def measure_detail(checked: Checked, canvas: Canvas) -> float:
    """-20 lg of the rms complex error, slow phase and the ratio of amplitudes set aside."""
    prepared = checked.prepared
    truth = truth_on_canvas(prepared, np.asarray(checked.scan.object))
    slow = slow_phase(canvas, truth, illumination(prepared.layout, prepared.probe), 10.0)
    area = scan_area(prepared.positions, ((N - 1) / 2,) * 2, 4)
    image, true = (canvas * slow.conj())[area], truth[area]
    image = image * (np.abs(true) ** 2).sum() / (np.abs(image) * np.abs(true)).sum()
    return float(-10 * np.log10(np.mean(np.abs(image - true) ** 2)))


def look_at_defect(checked: Checked, canvas: Canvas) -> tuple[float, float]:
    """Amplitude of a lattice at the missing site, and at others."""
    prepared, truth = checked.prepared, np.asarray(checked.scan.object)
    scale = np.abs(truth_on_canvas(prepared, truth)).mean() / np.abs(canvas).mean()

    def amplitude(row: int, col: int) -> float:
        y, x = (round(c + o) for c, o in zip(site(truth.shape, row, col), prepared.layout.origin, strict=True))
        return float(np.abs(canvas[y - 1 : y + 2, x - 1 : x + 2]).mean() * scale)

    others = [amplitude(*at) for at in ((2, 2), (2, 4), (1, 3), (3, 3), (0, 0), (4, 4))]
    return amplitude(*MISSING), float(np.mean(others))


def try_step(folder: Path, network_file: Path, where: tuple[str, str, float, float], strengths: list[float]) -> Any:
    """Scores of the engine's object and of those after steps of several strengths."""
    checked, pistons = reconstruct(folder, *where), where[2] <= 0
    shipped = read_network(network_file)
    before = score(checked, checked.canvas, pistons=pistons)
    row: dict[str, Any] = {'where': where, 'dose': scan_dose(checked.prepared), 'engine': before}
    row['overlap'] = scan_overlap(checked.prepared.positions, checked.prepared.probe)
    for strength in strengths:
        begun = time.process_time()
        step = take_step(checked.prepared, checked.canvas, shipped.network, strength=strength)
        seconds = time.process_time() - begun
        after = score(checked, step.canvas, pistons=pistons)
        row[f'{strength:g}'] = {name: after[name] - before[name] for name in SCORES}
        if where[0] == 'lattice':
            row[f'defect {strength:g}'] = look_at_defect(checked, checked.canvas), look_at_defect(checked, step.canvas)
    row['seconds'] = checked.seconds, seconds
    return row


def summarize(rows: list[Any], strength: str) -> str:
    """Medians of the gains, and the worst of detail."""
    gains = np.array([[row[strength][name] for name in SCORES] for row in rows])
    told = ' / '.join(f'{value:+.2f}' for value in np.median(gains, axis=0))
    return f'{told}; worst {gains[:, 3].min():+.2f} ({rows[int(gains[:, 3].argmin())]["where"][0]})'


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--network', type=Path, default=FILE)
    parser.add_argument('--scans', choices=('chosen', 'unseen'), default='unseen')
    parser.add_argument('--strengths', type=lambda text: [float(part) for part in text.split(',')], default=[1.0])
    parser.add_argument('--overlaps', type=lambda text: [float(part) for part in text.split(',')], default=OVERLAPS)
    parser.add_argument('--photons', type=lambda text: [float(part) for part in text.split(',')], default=PHOTONS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    pairs = CHOSEN_ON if given.scans == 'chosen' else UNSEEN
    for overlap in given.overlaps:
        for photons in given.photons:
            places = [(*pair, overlap, photons) for pair in pairs]
            rows = [try_step(given.work, given.network, where, given.strengths) for where in places]
            with (given.work / 'rows.jsonl').open('a') as file:
                file.writelines(json.dumps({**row, 'network': given.network.name}) + '\n' for row in rows)
            for strength in given.strengths:
                told = summarize(rows, f'{strength:g}')
                print(f'{overlap:.0%} {photons:g} strength {strength:g}: {told}', flush=True)


if __name__ == '__main__':
    main()
