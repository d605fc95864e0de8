"""Objects that the learned step is trained on: of a pretraining, and regular, written and photograph-like ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage, special

from ptychopinn_reconstructor.physics.simulation.objects import random_object
from ptychopinn_reconstructor.physics.simulation.textures import TEXTURES, clouds, leaves, stretch

Image = NDArray[np.float64]
Shape = tuple[int, int]
OF_PRETRAINING = 0.45  # share of the objects
SITES = 64  # of a lattice along an axis, after which its defects repeat


def draw_object(rng: Generator, shape: Shape) -> NDArray[np.complex64]:
    """An object (H, W): amplitude between .05 and 1.1, phase within +- .1 to 2.5 rad, mostly below 1.5."""
    if rng.random() < OF_PRETRAINING:
        return random_object(rng, shape)
    kinds = [*KINDS] if rng.random() < 0.8 else [*TEXTURES.values()]
    first, second = (_blurred(rng, kinds[rng.integers(len(kinds))](rng, shape)) for _ in range(2))
    phase = (first, 1 - first, second, stretch(first + rng.uniform(0.3, 2) * second))[rng.integers(4)]
    high = rng.uniform(0.7, 1.1)
    low = rng.uniform(0.05, 0.2) if rng.random() < 0.15 else rng.uniform(0.2, high)
    half_range = rng.uniform(0.1, 1.5) if rng.random() < 0.8 else rng.uniform(1.5, 2.5)
    values = (low + (high - low) * first) * np.exp(1j * half_range * (2 * phase - 1))
    return np.asarray(values, dtype=np.complex64)


def lattice(rng: Generator, shape: Shape) -> Image:
    """Particles on a square, hexagonal or oblique lattice of 5 to 18 pixels, turned; some missing, some fainter."""
    period, angle = np.exp(rng.uniform(np.log(5), np.log(18))), rng.uniform(0, np.pi)
    between = (np.pi / 2, np.pi / 3, rng.uniform(np.pi / 3, np.pi / 2))[rng.integers(3)]
    basis = period * np.stack([np.array([np.cos(a), np.sin(a)]) for a in (angle, angle + between)])
    pixels = np.indices(shape).reshape(2, -1).T - np.asarray(shape) / 2
    place = pixels @ np.linalg.inv(basis)
    near = np.rint(place)
    site = tuple(near.astype(np.int64).T % SITES)
    spoiled, faint = rng.random((SITES, SITES)), 1 - rng.uniform(0, 0.5) * rng.random((SITES, SITES)) ** 3
    shifts = rng.uniform(0, 0.06) * period * rng.normal(size=(SITES, SITES, 2))
    distance = np.hypot(*((place - near) @ basis - shifts[site]).T)
    radius, present = rng.uniform(0.18, 0.36) * period, spoiled[site] > rng.choice([0.0, 0.005, 0.03, 0.1])
    soft = rng.random() < 0.5
    profile = np.exp(-((1.5 * distance / radius) ** 2) / 2) if soft else special.expit((radius - distance) / 0.5)
    return np.asarray((present * faint[site] * profile).reshape(shape))


def writing(rng: Generator, shape: Shape) -> Image:
    """Rows of signs, each of a few strokes, as text has them."""
    height = int(rng.integers(8, 26))
    width, thickness = max(5, int(height * rng.uniform(0.5, 0.9))), rng.uniform(0.06, 0.13) * height
    signs = [_sign(rng, height, width, thickness) for _ in range(14)]
    pitch, gap = height + int(rng.integers(2, 10)), int(rng.integers(1, 4))
    image = np.zeros((shape[0] + 2 * pitch, shape[1] + 2 * pitch))
    for top in range(0, shape[0] + pitch, pitch):
        for left in range(int(rng.integers(width)), shape[1] + pitch, width + gap):
            if rng.random() < 0.85:
                image[top : top + height, left : left + width] += signs[rng.integers(len(signs))]
    row, col = rng.integers(0, pitch, 2)
    return np.asarray(image[row : row + shape[0], col : col + shape[1]])


def photograph(rng: Generator, shape: Shape) -> Image:
    """Things that cover each other, some textured, in uneven light, sharp here and soft there."""
    things = leaves(rng, shape)
    grain = clouds(rng, shape, rng.uniform(1.0, 2.2)) - 0.5
    image = things + rng.uniform(0.1, 0.9) * (np.mod(things * rng.uniform(3, 9), 1) < 0.5) * grain
    soft, mask = ndimage.gaussian_filter(image, rng.uniform(1.5, 5)), clouds(rng, shape, 3.5)
    sharp = special.expit((mask - rng.uniform(0.2, 0.6)) / 0.05)
    return stretch((sharp * image + (1 - sharp) * soft) * (0.6 + 0.4 * clouds(rng, shape, 3.5)), 0.01)


KINDS: tuple[Callable[[Generator, Shape], Image], ...] = (lattice, writing, photograph)


def _sign(rng: Generator, height: int, width: int, thickness: float) -> Image:
    """One sign (height, width) of two to four strokes and arcs."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing='ij')
    image = np.zeros((height, width))
    inset = thickness + 0.5
    for _ in range(rng.integers(2, 5)):
        if rng.random() < 0.3:
            radius = rng.uniform(0.25, 0.45) * width
            distance = np.abs(np.hypot(y - rng.uniform(radius, height - radius), x - width / 2) - radius)
        else:
            start, end = (rng.uniform(inset, np.array([height, width]) - inset) for _ in range(2))
            end = np.where(rng.random(2) < 0.4, start, end)  # often upright or level
            along = end - start
            share = ((y - start[0]) * along[0] + (x - start[1]) * along[1]) / max(float(along @ along), 1e-9)
            share = np.clip(share, 0, 1)
            distance = np.hypot(y - start[0] - share * along[0], x - start[1] - share * along[1])
        image = np.maximum(image, special.expit((thickness - distance) / 0.35))
    return np.asarray(image)


def _blurred(rng: Generator, image: Image) -> Image:
    blur = rng.uniform(0.3, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 2.0)
    grain = rng.uniform(0.02, 0.2) * (clouds(rng, image.shape) - 0.5) if rng.random() < 0.4 else 0.0
    return stretch(ndimage.gaussian_filter(image, blur) + grain)
