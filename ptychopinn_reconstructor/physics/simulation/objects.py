"""Procedural objects: name -> complex transmission that looks like a sample, drawn from a random generator.

A texture is an image (H, W) with values in [0, 1]; an object maps one texture to amplitude and one, the other or a mix
to phase. Textures are drawn sharp and blurred a little, so that edges are smooth on the pixel grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import ConfigError, quote
from .textures import TEXTURES, clouds, stretch

Image = NDArray[np.float64]
Shape = tuple[int, int]

AMPLITUDE = (0.6, 1.0)  # range of a named object's amplitude
PHASE = (0.9, 1.2)  # rad; a named object's phase lies within +- a number drawn from this range
EDGE_BLUR = (0.5, 0.9)  # pixels, sigma
GRAIN = (0.05, 0.2)  # share of fine 1/f texture on top, as real samples have it
# Shares of the objects of a pretraining that absorb strongly, and whose phase goes far beyond 2 pi: without them a
# network gives 12 dB of phase on an object that absorbs to .02, with them 20, and elsewhere the same.
ABSORBING, HILLY = 0.15, 0.1
SLOPE = (0.05, 0.4)  # rad a pixel
SATURATED = 0.02  # share of pixels at either end of a range, so that it is used


def make_object(name: str, shape: Shape, seed: int | Generator = 0) -> NDArray[np.complex64]:
    """The object `name` of `OBJECTS`, (H, W) complex64, the same for the same seed.

    Amplitude within [0.6, 1], phase within +-0.9 to +-1.2 rad; 'flat' is 1 everywhere. Raises ConfigError when the
    name is unknown or a side is below 16 pixels.
    """
    if name not in OBJECTS:
        raise ConfigError(f'The object {quote(name)} is unknown; choose one of {", ".join(OBJECTS)}.')
    if min(shape) < 16:
        raise ConfigError(f'The object would be {shape[0]} x {shape[1]} pixels; at least 16 x 16 are needed.')
    return OBJECTS[name](np.random.default_rng(seed), shape)


def random_object(rng: Generator, shape: Shape) -> NDArray[np.complex64]:
    """An object (H, W) complex64 of random kinds, ranges and blur, for pretraining on what no sample should surprise.

    Amplitude between 0.2 and 1.1, in one of seven down to 0; phase half range 0.1 to 3 rad (mostly below 1.5), in one
    of ten on hills of many rad; one flat object in twenty.
    """
    if rng.random() < 0.05:
        return np.full(shape, rng.uniform(0.5, 1.0) * np.exp(1j * rng.uniform(-np.pi, np.pi)), dtype=np.complex64)
    first, second = (_drawn_texture(rng, shape) for _ in range(2))
    amplitude, phase = _related(rng, first, second)
    high = rng.uniform(0.7, 1.1)
    low = rng.uniform(0.0, 0.2) if rng.random() < ABSORBING else rng.uniform(0.2, high)
    half_range = rng.uniform(0.1, 1.5) if rng.random() < 0.8 else rng.uniform(1.5, 3.0)
    object_ = _transmission(amplitude, phase, (low, high), half_range)
    if rng.random() < HILLY:
        object_ *= np.exp(1j * rng.uniform(*SLOPE) * _hills(rng, shape)).astype(np.complex64)
    return object_


def textured_object(kind: str, rng: Generator, shape: Shape) -> NDArray[np.complex64]:
    """An object whose amplitude and phase are independent textures of one kind, one texture, or a mix of two."""
    first, second = (_with_grain(rng, TEXTURES[kind](rng, shape)) for _ in range(2))
    amplitude, phase = _related(rng, first, second)
    return _transmission(amplitude, phase, AMPLITUDE, rng.uniform(*PHASE))


def mixed_object(rng: Generator, shape: Shape) -> NDArray[np.complex64]:
    """An object of two kinds, one within the smooth islands of a random mask, the other outside."""
    first, second = (_with_grain(rng, _two_kinds(rng, shape)) for _ in range(2))
    return _transmission(first, second, AMPLITUDE, rng.uniform(*PHASE))


def flat_object(rng: Generator, shape: Shape) -> NDArray[np.complex64]:
    """No object: transmission 1 everywhere."""
    return np.ones(shape, dtype=np.complex64)


OBJECTS: Mapping[str, Callable[[Generator, Shape], NDArray[np.complex64]]] = MappingProxyType(
    {**{kind: partial(textured_object, kind) for kind in TEXTURES}, 'flat': flat_object, 'mixed': mixed_object}
)


def _transmission(
    amplitude: Image, phase: Image, amplitude_range: tuple[float, float], half_range: float
) -> NDArray[np.complex64]:
    low, high = amplitude_range
    values = (low + (high - low) * amplitude) * np.exp(1j * half_range * (2 * phase - 1))
    return np.asarray(values, dtype=np.complex64)


def _hills(rng: Generator, shape: Shape) -> Image:
    """A smooth relief whose slopes are one per pixel where they are steep: their mean and one standard deviation."""
    relief = ndimage.gaussian_filter(clouds(rng, shape, rng.uniform(3.5, 5.0)), rng.uniform(4.0, 12.0))
    slope = np.hypot(*np.gradient(relief))
    return np.asarray(relief / (slope.mean() + slope.std()))


def _related(rng: Generator, first: Image, second: Image) -> tuple[Image, Image]:
    """Amplitude and phase textures: independent (half of the draws), equal, opposite, or phase a mix of both."""
    choice = rng.choice(4, p=(0.5, 0.15, 0.1, 0.25))
    if choice == 0:
        return first, second
    if choice == 1:
        return first, first
    if choice == 2:
        return first, 1 - first
    share = rng.uniform(0.3, 0.7)
    return first, stretch(share * first + (1 - share) * second, SATURATED)


def _with_grain(rng: Generator, texture: Image) -> Image:
    blurred = ndimage.gaussian_filter(texture, rng.uniform(*EDGE_BLUR), mode='reflect')
    return stretch(blurred + rng.uniform(*GRAIN) * (clouds(rng, texture.shape) - 0.5), SATURATED)


def _two_kinds(rng: Generator, shape: Shape) -> Image:
    kinds = rng.choice(list(TEXTURES), size=2, replace=False)
    inside, outside = (TEXTURES[str(kind)](rng, shape) for kind in kinds)
    mask = clouds(rng, shape, exponent=3.5) > rng.uniform(0.35, 0.65)
    soft = ndimage.gaussian_filter(mask.astype(np.float64), 1.0)
    return soft * inside + (1 - soft) * outside


def _drawn_texture(rng: Generator, shape: Shape) -> Image:
    kind = str(rng.choice([*TEXTURES, 'mixed']))
    texture = _two_kinds(rng, shape) if kind == 'mixed' else TEXTURES[kind](rng, shape)
    if rng.random() < 0.6:
        texture = texture + rng.uniform(0.02, 0.3) * (clouds(rng, shape) - 0.5)
    blur = rng.uniform(0.3, 1.0) if rng.random() < 0.7 else rng.uniform(1.0, 3.0)
    return stretch(ndimage.gaussian_filter(texture, blur))
