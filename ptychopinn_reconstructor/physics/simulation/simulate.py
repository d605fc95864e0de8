"""Simulated scans: an object, a probe, a jittered raster, the exact forward model and counting noise.

Patterns are those of forward.diffract with the conventions of geometry: corner p = c - (N-1)/2, r = round(p),
f = p - r; the window of the object at r under the probe shifted by +f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...errors import ConfigError, InputError
from ...patterns import split_into_blocks
from ...scan import MAX_CANVAS, Scan, check_fresnel_number, check_probe
from ..forward import diffract
from ..geometry import gather_patches
from ..probes import check_size, make_probe, probe_modes, scale_to_power
from ..propagation import fresnel_kernel
from .objects import make_object

DEFAULT_SIZE = 64  # pixels, the side of a pattern
BORDER = 2.0  # pixels between the outermost patch and the object's edge
BLOCK = 128  # patterns propagated at a time
MAX_COUNTS = 2**32 - 1  # of one pixel, what uint32 holds
MakeArray = Callable[[tuple[int, ...], type[np.generic]], Any]


def simulate(
    *,
    n: int | None = None,
    positions: int | NDArray[np.float64] = 1024,
    step: float = 8.0,
    photons: float = 1e5,
    object: str | NDArray[Any] = 'cells',
    probe: str | NDArray[Any] = 'defocused',
    modes: int = 1,
    seed: int = 0,
    jitter: float = 2.0,
    fresnel_number: float | tuple[float, float] | None = None,
    empty: MakeArray = np.empty,
) -> Scan:
    """A scan with counting noise, its true object and its true probe.

    Parameters
    ----------
    n
        Side N of a pattern in pixels, divisible by 4; None takes that of a probe array, or 64.
    positions
        Number of scan positions on a raster as near square as possible, or the patch centers (n, 2) themselves,
        [row, column] in pixels of the object's array.
    step, jitter
        Spacing of the raster and half range of the uniform displacement of each position along both axes, pixels.
    photons
        Photons incident per pattern: sum over the probe's array of abs(P)^2.
    object
        A name of objects.OBJECTS, drawn by `seed` on a grid that just holds the scan, or an array (H, W).
    probe
        A name of probes.PROBES, or an array (N, N) or (modes, N, N), rescaled to `photons`.
    modes
        Incoherent modes built on a probe that has one; a probe array with several is taken as it is.
    seed
        Of positions, object and noise, each drawn from its own stream.
    fresnel_number
        Of a pixel in the near field (see `Scan`), where the probe `diffuser` fills the window; None: the far field.
    empty
        What makes the array of the patterns of a shape and a type, which is filled in order: one on disk where they are
        many.

    Returns
    -------
    Scan
        Counts (uint16, or uint32 where needed); `object` on whose grid the positions are given (object_origin (0, 0));
        `probe` with absolute power.

    Raises
    ------
    ConfigError
        For an unknown name, N not divisible by 4, a step, photons or count out of range.
    InputError
        When an object array does not hold the scan, or a pixel would count more than 2^32 photons.
    """
    illumination = _probe(probe, n, photons, modes)
    side = illumination.shape[-1]
    place, draw, noise = (np.random.default_rng(s) for s in np.random.SeedSequence(_checked_seed(seed)).spawn(3))
    centers = raster(positions, step, jitter, side, place) if isinstance(positions, int | np.integer) else positions
    centers = np.asarray(centers, dtype=np.float64)
    if isinstance(object, str):
        height, width = np.ceil(centers.max(axis=0) + (side - 1) / 2 + BORDER).astype(int).tolist()
        truth = make_object(object, (height + 1, width + 1), draw)
    else:
        truth = np.asarray(object, dtype=np.complex64)
    _check_fits(truth, centers, side)
    number = None if fresnel_number is None else check_fresnel_number(fresnel_number)
    kernel = None if number is None else fresnel_kernel(side, number)
    expected = expected_counts(truth, illumination, centers, kernel=kernel)
    return Scan(
        diffraction=_noisy_counts(expected, (len(centers), side, side), noise, empty),
        positions=centers,
        probe=illumination.astype(np.complex64),
        object=truth,
        scan_index=np.zeros(len(centers), dtype=np.int64),
        fresnel_number=number,
        metadata={'name': 'simulated', 'photons': float(photons), 'seed': float(seed)},
    )


def raster(count: int, step: float, jitter: float, n: int, rng: Generator) -> NDArray[np.float64]:
    """`count` patch centers (count, 2) of a jittered raster as near square as possible, row by row, pixels.

    The first row and column lie such that a patch of n pixels at the smallest center begins 2 pixels inside the
    object. Raises ConfigError when count is below 2, step is not positive or jitter is negative.
    """
    if count < 2:
        raise ConfigError(f'positions is {count}; a scan needs at least 2.')
    if not (np.isfinite(step) and step > 0):
        raise ConfigError(f'step is {step}; it must be a positive number of pixels.')
    if not (np.isfinite(jitter) and jitter >= 0):
        raise ConfigError(f'jitter is {jitter}; it must be zero or a positive number of pixels.')
    columns = int(np.ceil(np.sqrt(count)))
    if columns * step + 2 * jitter + n > MAX_CANVAS:
        raise ConfigError(
            f'{count} positions {step:g} pixels apart span more than {MAX_CANVAS} pixels; lower positions or step.'
        )
    grid = np.stack(np.divmod(np.arange(count), columns), axis=1) * step
    centers = grid + rng.uniform(-jitter, jitter, grid.shape)
    return np.asarray(centers - centers.min(axis=0) + (n - 1) / 2 + BORDER)


def expected_counts(
    object: NDArray[Any],
    probe: NDArray[Any],
    positions: NDArray[np.float64],
    block: int = BLOCK,
    kernel: NDArray[Any] | None = None,
) -> Iterator[NDArray[np.float64]]:
    """Noise-free patterns (b, N, N) float64 in counts, `block` at a time, of an object (H, W) whose array is the
    positions' grid, under a probe (modes, N, N) in sqrt(counts); positions (n, 2) are patch centers, `kernel` (N, N) is
    that of a near field (`propagation.fresnel_kernel`).
    """
    corners = positions - (probe.shape[-1] - 1) / 2
    whole = np.rint(corners).astype(np.int64)
    fractions = corners - whole
    for i in range(0, len(positions), block):
        window = slice(i, i + block)
        patches = gather_patches(object, whole[window], probe.shape[-1])
        yield diffract(probe.astype(np.complex128), patches.astype(np.complex128), fractions[window], kernel)


def _noisy_counts(
    blocks: Iterator[NDArray[np.float64]], shape: tuple[int, int, int], rng: Generator, empty: MakeArray
) -> Any:
    counts, done = empty(shape, np.uint16), 0
    for expected in blocks:
        if expected.max() > 0.99 * MAX_COUNTS:
            raise InputError(
                f'A pixel would count {expected.max():.2g} photons, more than {MAX_COUNTS}; use fewer photons.'
            )
        drawn = rng.poisson(expected)
        if counts.dtype == np.uint16 and drawn.max() > np.iinfo(np.uint16).max:
            narrow, counts = counts, empty(shape, np.uint32)
            for block in split_into_blocks((done, *shape[1:])):
                counts[np.arange(block.start, block.stop)] = narrow[block]
        counts[np.arange(done, done + len(drawn))] = drawn
        done += len(drawn)
    return counts


def _probe(probe: str | NDArray[Any], n: int | None, photons: float, modes: int) -> NDArray[np.complex128]:
    if isinstance(probe, str):
        return make_probe(probe, DEFAULT_SIZE if n is None else n, photons=photons, modes=modes)
    values = check_probe(probe, n)
    check_size(values.shape[-1])
    if len(values) > 1 and modes not in (1, len(values)):
        raise ConfigError(f'The probe handed in has {len(values)} modes and modes is {modes}; leave modes out.')
    scaled = scale_to_power(values, photons)
    return scaled if len(values) > 1 else probe_modes(scaled[0], modes)


def _check_fits(object: NDArray[Any], positions: NDArray[np.float64], side: int) -> None:
    if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
        raise InputError(f'positions has shape {positions.shape}; expected finite patch centers (n, 2): [row, column].')
    if object.ndim != 2:
        raise InputError(f'The object has shape {object.shape}; expected (H, W): one complex layer.')
    corners = np.rint(positions - (side - 1) / 2)
    low, need = corners.min(axis=0), corners.max(axis=0) + side
    if (low < 0).any() or (need > object.shape).any():
        raise InputError(
            f'The patches cover rows {low[0]:.0f} to {need[0]:.0f} and columns {low[1]:.0f} to {need[1]:.0f}, but the '
            f'object has {object.shape[0]} x {object.shape[1]} pixels; use a larger object or fewer positions.'
        )


def _checked_seed(seed: int) -> int:
    if seed < 0:
        raise ConfigError(f'seed is {seed}; it must be zero or a positive whole number.')
    return int(seed)
