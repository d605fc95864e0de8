"""The first scans of the training, as they were drawn before there were others: objects of a pretraining, larger scans.

The order in which a generator is asked is part of what is drawn: nothing here can be shared with `states.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft, ndimage, special

from ptychopinn_reconstructor.physics.probes import _from_pupil, energy_diameter
from ptychopinn_reconstructor.physics.simulation.objects import random_object
from ptychopinn_reconstructor.physics.simulation.simulate import BORDER, raster, simulate
from ptychopinn_reconstructor.scan import Scan

FIRST_SCANS = 183
SEED, N, EXTENT, MOST = 77, 64, 130, 256


def draw_first_scan(number: int) -> Scan:
    """Scan `number` of these, with its truth."""
    rng = np.random.default_rng([SEED, number])
    probe, diameter = _draw_probe(rng)
    overlap = rng.uniform(-0.02, 0.75)
    photons = 10 ** rng.uniform(3, 6) if rng.random() < 0.6 else 10 ** rng.uniform(3, 4.5)
    step = (1 - overlap) * diameter
    count = int(np.clip((EXTENT / step + 1) ** 2, 49, MOST))
    centers = raster(count, step, min(2.0, 0.25 * step), N, rng)
    height, width = (np.ceil(centers.max(axis=0) + (N - 1) / 2 + BORDER).astype(int) + 1).tolist()
    truth = random_object(rng, (height, width))
    return simulate(positions=centers, photons=photons, object=truth, probe=probe, seed=number)


def _draw_probe(rng: Generator) -> tuple[NDArray[np.complex128], float]:
    x = np.arange(N) - N // 2
    r = np.hypot(x[:, None], x)
    while True:
        family = rng.random()
        if family < 0.6:
            outer = rng.uniform(7, 18)
            inner = rng.choice([0, 1]) * rng.uniform(0.2, 0.6) * outer
            probe = _from_pupil(N, outer=outer, inner=inner, defocus=rng.choice([-1, 1]) * rng.uniform(0, 100))
        elif family < 0.8:
            radius = rng.uniform(8, 22)
            disk = special.expit((radius - r) / rng.uniform(0.6, 3))
            probe = disk * np.exp(1j * r**2 / rng.uniform(40, 200) * rng.choice([-1, 1]))
        else:
            width = rng.uniform(6, 11)
            probe = np.exp(-(r**2) / 2 / width**2 + 1j * r**2 / rng.uniform(40, 200) * rng.choice([-1, 1]))
        if rng.random() < 0.4:
            smooth = ndimage.gaussian_filter(rng.normal(size=(N, N)), rng.uniform(3, 6))
            pupil = fft.fftshift(fft.fft2(fft.ifftshift(probe)))
            pupil = pupil * np.exp(1j * smooth / smooth.std() * rng.uniform(0.3, 1.5))
            probe = fft.fftshift(fft.ifft2(fft.ifftshift(pupil)))
        power, diameter = np.abs(probe) ** 2, energy_diameter(probe)
        rim = power[:3].sum() + power[-3:].sum() + power[:, :3].sum() + power[:, -3:].sum()
        if 12 < diameter < 46 and rim < 0.02 * power.sum():
            return np.asarray(probe), diameter
