"""What the learned step is trained on: objects of the engine with what the patterns say of them, and their truth.

| channels of a state | what                                                    |
|---------------------|---------------------------------------------------------|
| 0 to 8              | what the network sees (`physics/learned/features.py`)   |
| 9                   | s, the unit of its answer                               |
| 10                  | 1 where the answer counts                               |
| 11, 12              | truth with the slow phase that the engine gave it       |

Scans have patterns of 32 or 64 pixels: the probe enters only through what the network sees, so that small ones do.
Quick states come without a scan: truth and the counting noise of one whose spots tie it perfectly.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft, ndimage, special

from ptychopinn_reconstructor.errors import PtychoPINNError
from ptychopinn_reconstructor.physics.engine.options import RefineOptions, automatic_prior
from ptychopinn_reconstructor.physics.engine.prior import Smoothness
from ptychopinn_reconstructor.physics.engine.refine import refine, scan_dose
from ptychopinn_reconstructor.physics.geometry import layout
from ptychopinn_reconstructor.physics.illumination import illumination
from ptychopinn_reconstructor.physics.learned.features import Evidence, describe_canvas, noise_level, typical_light
from ptychopinn_reconstructor.physics.learned.step import gather_evidence
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.probes import _from_pupil, energy_diameter
from ptychopinn_reconstructor.physics.sampling import scan_overlap
from ptychopinn_reconstructor.physics.simulation.simulate import BORDER, raster, simulate
from ptychopinn_reconstructor.scan import Scan

from .first_scans import FIRST_SCANS, draw_first_scan
from .objects import draw_object

State = NDArray[np.float16]  # (13, H, W)
Canvas = NDArray[np.complex64]
CHANNELS = 13
SLOW = 8.0  # pixels: phase that varies more slowly is the wavefront step's
LIT = 0.15  # of the typical light: pixels with less do not count
QUICK_SIZE, QUICK_DOSES = 136, 3
EXTENT = {32: 96, 64: 116}  # pixels between the outermost centers
MOST = {32: 225, 64: 121}  # patterns


def draw_probe(rng: Generator, n: int) -> tuple[NDArray[np.complex128], float]:
    """A probe (n, n) of three families, some with aberrations, and its diameter, a sixth to three quarters of n."""
    x = np.hypot(*np.indices((n, n)) - n // 2) * (64 / n)
    while True:
        family, sign = rng.random(), rng.choice([-1, 1])
        if family < 0.6:
            outer = rng.uniform(6, 20)
            inner = rng.choice([0, 1]) * rng.uniform(0.2, 0.6) * outer
            probe = _from_pupil(n, outer=outer, inner=inner, defocus=sign * rng.uniform(0, 100))
        else:
            curved = np.exp(1j * sign * x**2 / rng.uniform(40, 200))
            disk = special.expit((rng.uniform(8, 24) - x) / rng.uniform(0.6, 3))
            spot = np.exp(-((x / rng.uniform(6, 13)) ** 2) / 2)
            probe = (disk if family < 0.8 else spot) * curved
        if rng.random() < 0.4:
            smooth = ndimage.gaussian_filter(rng.normal(size=(n, n)), rng.uniform(3, 6) * n / 64)
            pupil = fft.fftshift(fft.fft2(fft.ifftshift(probe)))
            pupil = pupil * np.exp(1j * smooth / smooth.std() * rng.uniform(0.3, 1.5))
            probe = fft.fftshift(fft.ifft2(fft.ifftshift(pupil)))
        power = np.abs(probe) ** 2
        edge = 1 - power[3:-3, 3:-3].sum() / power.sum()
        diameter = energy_diameter(probe)
        if n / 6 < diameter < 0.76 * n and edge < 0.03:
            return np.asarray(probe), diameter


def draw_centers(rng: Generator, n: int, diameter: float, overlap: float) -> NDArray[np.float64]:
    """Centers (count, 2) of a small scan."""
    step = (1 - overlap) * diameter
    count = int(np.clip((EXTENT[n] / step + 1) ** 2, 36, MOST[n]))
    return raster(count, step, min(2.0, 0.25 * step), n, rng)


def scan_states(seed: int, number: int) -> list[State]:
    """Scan `number` after the engine: its object in the middle of the passes, and at their end."""
    if number < FIRST_SCANS:
        return _refined_states(draw_first_scan(number), 1.0, 0.4)
    rng = np.random.default_rng([seed, 3, number])
    n = int(rng.choice([32, 64]))
    probe, diameter = draw_probe(rng, n)
    centers = draw_centers(rng, n, diameter, rng.uniform(-0.02, 0.75))
    height, width = np.ceil(centers.max(axis=0) + (n - 1) / 2 + BORDER).astype(int).tolist()
    photons = 10 ** (rng.uniform(3, 6) if rng.random() < 0.35 else rng.uniform(3, 4.7)) * (n / 64) ** 2
    truth = draw_object(rng, (height + 1, width + 1))
    scan = simulate(positions=centers, photons=photons, object=truth, probe=probe, seed=number)
    try:
        return _refined_states(scan, rng.uniform(0.6, 1.0), 0.5)
    except PtychoPINNError:  # an object that the engine refuses
        return []


def _refined_states(scan: Scan, share: float, midway: float) -> list[State]:
    """After `share` of the automatic passes, and after so much of those."""
    prepared = prepare_scan(scan)
    overlap, dose = scan_overlap(prepared.positions, prepared.probe), scan_dose(prepared)
    passes = max(5, round(share * RefineOptions.for_scan(dose=dose, overlap=overlap).passes))
    options = RefineOptions.for_scan(passes, dose=dose, overlap=overlap, background='off', intensity='off')
    canvases: list[Canvas] = []

    def keep(number: int, canvas: Canvas) -> None:
        if number == max(2, round(midway * passes)):
            canvases.append(canvas.copy())

    canvases.append(refine(prepared, np.ones(prepared.layout.shape, np.complex64), options, after_pass=keep).canvas)
    known = truth_on_canvas(prepared, np.asarray(scan.object))
    rim = prepared.n_pixels // 4
    return [stack_state(canvas, known, gather_evidence(prepared, canvas, prepared.probe), rim) for canvas in canvases]


def quick_states(seed: int, number: int) -> list[State]:
    """An object with the counting noise of a few doses, smoothed as the engine's prior does."""
    rng = np.random.default_rng([seed, 4, number])
    shape = (QUICK_SIZE, QUICK_SIZE)
    truth, light = draw_object(rng, shape), _draw_light(rng)
    states = []
    for _ in range(QUICK_DOSES):
        dose = np.exp(rng.uniform(np.log(1.0), np.log(2000.0)))
        counts = np.asarray(light * dose, dtype=np.float32)
        noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2 * np.maximum(counts, 0.02 * dose))
        noisy = np.asarray(truth + noise, dtype=np.complex64)
        strength = 2 * automatic_prior(dose) * np.exp(rng.uniform(-0.5, 0.5))
        canvas = Smoothness.for_dose(counts, strength)(noisy)
        uneven = ndimage.gaussian_filter(rng.normal(size=shape), 8.0)
        misfit = 1 + rng.uniform(-0.12, 0.12) + rng.uniform(0, 0.05) * uneven / uneven.std()
        evidence = Evidence(counts * (noisy - canvas) / 2, counts, misfit.astype(np.float32))
        states.append(stack_state(canvas, truth, evidence, 0))
    return states


def _draw_light(rng: Generator) -> NDArray[np.float32]:
    """What a scan brings to each pixel of its middle, 1 where it is typical."""
    n = int(rng.choice([32, 64]))
    probe, diameter = draw_probe(rng, n)
    step = (1 - rng.uniform(0.2, 0.75)) * diameter
    count = int((QUICK_SIZE / step + 2) ** 2)
    laid = layout(raster(count, step, min(2.0, 0.25 * step), n, rng), n)
    first = [(size - QUICK_SIZE) // 2 for size in laid.shape]
    light = illumination(laid, probe[None])[tuple(slice(at, at + QUICK_SIZE) for at in first)]
    return np.asarray(light / typical_light(light))


def stack_state(canvas: Canvas, truth: Canvas, evidence: Evidence, rim: int) -> State:
    """The channels of a state; the outermost `rim` pixels do not count."""
    typical = typical_light(evidence.light)
    turn = np.exp(-1j * np.angle((canvas * evidence.light).sum())).astype(np.complex64)
    known = truth * slow_phase(canvas, truth, evidence.light) * turn
    turned = evidence._replace(direction=evidence.direction * turn)
    counts = np.zeros(canvas.shape, dtype=np.float32)
    middle = tuple(slice(rim, size - rim) for size in canvas.shape)
    counts[middle] = evidence.light[middle] > LIT * typical
    own = [noise_level(evidence.light, typical), counts, known.real, known.imag]
    return np.concatenate([describe_canvas(canvas * turn, turned, typical), np.stack(own)]).astype(np.float16)


def slow_phase(canvas: Canvas, truth: Canvas, light: NDArray[np.float32], sigma: float = SLOW) -> Canvas:
    """The factors of modulus 1 (H, W) by which a canvas differs from the truth over many pixels."""
    product = canvas * truth.conj() * np.minimum(light / typical_light(light), 1)
    smooth = ndimage.gaussian_filter(product.real, sigma) + 1j * ndimage.gaussian_filter(product.imag, sigma)
    return np.asarray(np.exp(1j * np.angle(smooth + 1e-20)), dtype=np.complex64)


def truth_on_canvas(prepared: PreparedScan, truth: Canvas) -> Canvas:
    """The part of a simulated scan's object that lies on its canvas."""
    row, col = (-round(value) for value in prepared.layout.origin)
    height, width = prepared.layout.shape
    return np.asarray(truth[row : row + height, col : col + width])
