"""Textures for procedural objects: images (H, W) with values in [0, 1] from a random generator.

Lengths are in pixels and do not grow with the image, so that a larger scan sees more of the same sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft, spatial, special

Image = NDArray[np.float64]
Shape = tuple[int, ...]


def stretch(image: Image, clip: float = 0.0) -> Image:
    """The image mapped linearly to [0, 1], a share `clip` saturated at either end; a constant one becomes 0.5."""
    low, high = (float(v) for v in np.quantile(image, (clip, 1 - clip)))
    if not high > low:
        low, high = float(image.min()), float(image.max())
    return np.clip((image - low) / (high - low), 0, 1) if high > low else np.full_like(image, 0.5)


def clouds(rng: Generator, shape: Shape, exponent: float | None = None) -> Image:
    """Gaussian random field with power spectrum 1/f^b, b from 2 to 3.5 unless given."""
    b = rng.uniform(2.0, 3.5) if exponent is None else exponent
    size = [fft.next_fast_len(n + 16) for n in shape]  # cut from a larger one, so that it is not periodic
    k = np.hypot(fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1]))
    k[0, 0] = np.inf
    noise = rng.normal(size=(2, *k.shape))
    field = fft.irfft2((noise[0] + 1j * noise[1]) * np.maximum(k, 1 / 128) ** (-b / 2) * (k < np.inf), s=size)
    return stretch(np.clip(field / field.std(), -2.5, 2.5)[: shape[0], : shape[1]])


def islands(rng: Generator, shape: Shape) -> Image:
    """A smooth random field cut at one to three levels: domains with winding borders."""
    field = clouds(rng, shape, rng.uniform(2.6, 3.6))
    cuts = np.sort(rng.uniform(0.25, 0.75, rng.integers(1, 4)))
    levels = rng.permutation(np.linspace(0, 1, len(cuts) + 1))
    return np.asarray(levels[np.searchsorted(cuts, field)])


def cells(rng: Generator, shape: Shape) -> Image:
    """Voronoi cells of random gray with dark or bright walls, seen through uneven tissue."""
    size = rng.uniform(10, 36)
    seeds = _points(rng, shape, size)
    distance, index = _two_nearest(seeds, _pixels(shape) + _warp(rng, shape, size / 4))
    wall = np.exp(-(((distance[:, 1] - distance[:, 0]) / rng.uniform(1.5, 4)) ** 2)).reshape(shape)
    body = rng.uniform(0, 1, len(seeds))[index[:, 0]].reshape(shape)
    nucleus = special.expit((rng.uniform(0.1, 0.25) * size - distance[:, 0]) / 0.7).reshape(shape)
    image = body + rng.choice((-1, 1)) * rng.uniform(0.3, 0.9) * wall + rng.uniform(-0.6, 0.6) * nucleus
    return stretch(image + rng.uniform(0.1, 0.5) * clouds(rng, shape))


def leaves(rng: Generator, shape: Shape) -> Image:
    """Dead leaves: ellipses of power-law size laid over each other, each of one gray with a slight gradient."""
    image = np.full(shape, 0.5)
    small, large = rng.uniform(5, 12), 70.0
    area = 0.7 * np.pi * 2 * small**2 * np.log(large / small)  # mean of a leaf under the density r^-3
    for _ in range(int(4 * np.prod(shape) / area)):
        radius = small * rng.uniform((small / large) ** 2, 1) ** -0.5
        center, gray, tilt = rng.uniform((0, 0), shape), rng.uniform(), rng.uniform(-0.15, 0.15, 2)
        window, (u, v) = _local(rng, shape, center, radius)
        edge = special.expit(np.minimum((1 - np.hypot(u, v)) * radius / 0.4, 30))
        image[window] += edge * (gray + tilt[0] * u + tilt[1] * v - image[window])
    return np.asarray(np.clip(image, 0, 1))


def blobs(rng: Generator, shape: Shape) -> Image:
    """Soft round particles of log-normal size, thicker in the middle, some overlapping, on a plain ground."""
    image = np.zeros(shape)
    typical = rng.uniform(4, 14)
    for _ in range(max(8, int(np.prod(shape) * rng.uniform(0.2, 0.6) / (np.pi * typical**2)))):
        radius = float(np.clip(typical * rng.lognormal(0, 0.4), 2, 60))
        window, (u, v) = _local(rng, shape, rng.uniform((0, 0), shape), radius)
        image[window] += rng.uniform(0.3, 1) * np.sqrt(np.clip(1 - u**2 - v**2, 0, None))
    return stretch(np.minimum(image, 1.6))


def spokes(rng: Generator, shape: Shape) -> Image:
    """Siemens star: spokes about a point near the middle, broken by rings."""
    center = np.asarray(shape) * rng.uniform(0.35, 0.65, 2)
    y, x = (_pixels(shape) - center).T.reshape(2, *shape)
    r, angle = np.hypot(y, x), np.arctan2(y, x)
    count = int(rng.integers(8, 37))
    width = np.maximum(r, 1) / count  # pixels per radian of the wave: the edge is as sharp everywhere
    wave = special.expit(np.sin(count * angle + rng.uniform(0, 2 * np.pi)) * width / 0.5)
    wave = np.where(r < 0.6 * count, 0.5, wave)  # finer than 4 pixels a period: unresolved
    spacing, gap = rng.uniform(25, 60), rng.uniform(2, 5)
    phase = np.mod(r, spacing)
    ring = special.expit((np.minimum(phase, spacing - phase) - gap) / 0.5)
    return stretch(wave * ring + rng.uniform(0, 0.3) * (1 - ring))


def gratings(rng: Generator, shape: Shape) -> Image:
    """Fields of bars, each of its own period (4 to 24 pixels), direction and contrast, with plain gaps."""
    seeds = _points(rng, shape, rng.uniform(45, 90))
    pixels = _pixels(shape)
    distance, index = _two_nearest(seeds, pixels)
    period, direction = np.exp(rng.uniform(np.log(4), np.log(24), len(seeds))), rng.uniform(0, np.pi, len(seeds))
    at = index[:, 0]
    along = ((pixels - seeds[at]) * np.stack([np.sin(direction), np.cos(direction)], 1)[at]).sum(axis=1)
    bars = special.expit(np.sin(2 * np.pi * along / period[at]) * period[at] / 2.5)
    contrast, gap = rng.uniform(0.4, 1, len(seeds))[at], special.expit((distance[:, 1] - distance[:, 0] - 6) / 1.0)
    return stretch((contrast * bars * gap).reshape(shape))


def lines(rng: Generator, shape: Shape) -> Image:
    """Fibers: long curved lines of random width and density crossing each other."""
    image, pixels = np.zeros(shape), _pixels(shape)
    y, x = (pixels + _warp(rng, shape, rng.uniform(3, 12))).T.reshape(2, *shape)
    for _ in range(int(np.clip(np.sqrt(np.prod(shape)) * rng.uniform(0.06, 0.18), 8, 80))):
        angle, through = rng.uniform(0, np.pi), rng.uniform((0, 0), shape)
        across = (y - through[0]) * np.cos(angle) + (x - through[1]) * np.sin(angle)
        width = rng.uniform(1.0, 6.0)
        image += rng.uniform(0.3, 1) * special.expit((width - np.abs(across)) / 0.5)
    return stretch(np.minimum(image, 2.0) + 0.3 * clouds(rng, shape))


TEXTURES: Mapping[str, Callable[[Generator, Shape], Image]] = MappingProxyType(
    {
        'cells': cells,
        'clouds': clouds,
        'islands': islands,
        'leaves': leaves,
        'blobs': blobs,
        'spokes': spokes,
        'gratings': gratings,
        'lines': lines,
    }
)


def _pixels(shape: Shape) -> Image:
    """Row and column of every pixel, (H W, 2)."""
    return np.ascontiguousarray(np.indices(shape).reshape(2, -1).T, dtype=np.float64)


def _points(rng: Generator, shape: Shape, spacing: float) -> Image:
    """Points (n, 2) about `spacing` apart: a jittered lattice that covers the image and its border."""
    axes = [np.arange(-spacing, n + 2 * spacing, spacing) for n in shape]
    lattice = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 2)
    return np.asarray(lattice + rng.uniform(-0.5, 0.5, lattice.shape) * spacing)


def _two_nearest(seeds: Image, pixels: Image) -> tuple[Image, NDArray[np.intp]]:
    """Distance to and index of the two nearest of `seeds`, (H W, 2) each."""
    distance, index = spatial.cKDTree(seeds).query(pixels, k=2)
    return np.asarray(distance), np.asarray(index)


def _warp(rng: Generator, shape: Shape, size: float) -> Image:
    """Smooth random displacement (H W, 2) of about `size` pixels."""
    return np.stack([size * 4 * (clouds(rng, shape, 4.5) - 0.5).ravel() for _ in range(2)], axis=1)


def _local(
    rng: Generator, shape: Shape, center: NDArray[np.float64], radius: float
) -> tuple[tuple[slice, slice], tuple[Image, Image]]:
    """The window about an ellipse of random axes and direction, and its coordinates, 1 on the edge."""
    reach = 1.0 * radius + 2
    low = np.clip(np.floor(center - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(center + reach) + 1, 0, shape).astype(int)
    y, x = np.meshgrid(*(np.arange(a, b) - c for a, b, c in zip(low, high, center, strict=True)), indexing='ij')
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.45, 1)
    u, v = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    return (slice(low[0], high[0]), slice(low[1], high[1])), (u / radius, v / (radius * flat))
