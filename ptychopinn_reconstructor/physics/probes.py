"""Procedural probes: name -> illumination in the sample plane, and incoherent modes made from one.

A probe is (N, N) complex, its center at [N//2, N//2]. Pupils are circles and rings in Fourier pixels, soft at the edge
(logistic, half a pixel at N = 64) and scaled with N, so that the width in the sample plane is the same share of N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from ..errors import ConfigError, quote

REFERENCE_SIZE = 64  # pixels: the lengths below are given for a probe of this size
FIRST_ZERO_J1 = 3.8317
MODE_DECAY = 0.35  # power of each incoherent mode relative to the one before, unless powers are given
MAX_MODES = 16
GRAIN = 5.0  # pixels
SPECKLE = 0.8  # amplitude of what the diffuser scatters to that of the direct beam


def defocused(n: int) -> NDArray[np.complex128]:
    """Annular pupil (13 px outer, 4 px inner radius at N = 64) out of focus: that of simulated_A and simulated_B."""
    return _from_pupil(n, outer=13.0, inner=4.0, defocus=52.0)


def zone_plate(n: int) -> NDArray[np.complex128]:
    """Fresnel zone plate with a large central stop, further out of focus: a bright ring with fringes."""
    return _from_pupil(n, outer=11.0, inner=5.5, defocus=68.0)


def airy(n: int) -> NDArray[np.complex128]:
    """Airy pattern of a circular pupil in focus, first dark ring at 10 px at N = 64."""
    x = np.maximum(_radius(n) * (FIRST_ZERO_J1 / 10.0), 1e-9)
    return np.asarray(2 * special.j1(x) / x, dtype=np.complex128)


def gaussian(n: int) -> NDArray[np.complex128]:
    """Gaussian beam, 8 px standard deviation of the amplitude at N = 64, slightly curved wavefront."""
    r2 = _radius(n) ** 2
    return np.asarray(np.exp(-r2 / (2 * 8.0**2) + 1j * r2 / 90.0))


def flat_top(n: int) -> NDArray[np.complex128]:
    """Nearly uniform disk of 12 px radius at N = 64, soft edge, slightly curved wavefront."""
    r = _radius(n)
    return np.asarray(special.expit((12.0 - r) / 1.0) * np.exp(1j * r**2 / 90.0))


def diffuser(n: int) -> NDArray[np.complex128]:
    """Speckle of 5 px behind a diffuser, which fills the window but for a soft edge: an illumination for near fields.

    Speckle does not scale with N.
    """
    noise = np.random.default_rng(0).standard_normal((2, n, n))
    k2 = fft.fftfreq(n)[:, None] ** 2 + fft.fftfreq(n) ** 2
    speckle = fft.ifft2(fft.fft2(noise[0] + 1j * noise[1]) * np.exp(-0.5 * (2 * np.pi * GRAIN / 2) ** 2 * k2))
    speckle *= 1 / np.sqrt(np.mean(np.abs(speckle) ** 2))
    x = np.abs((np.arange(n) - n // 2) / n)
    edge = special.expit((0.46 - x) / 0.008)
    return np.asarray((1 + SPECKLE * speckle) * edge[:, None] * edge, dtype=np.complex128)


CONFINED: Mapping[str, Callable[[int], NDArray[np.complex128]]] = MappingProxyType(
    {'defocused': defocused, 'zone_plate': zone_plate, 'airy': airy, 'gaussian': gaussian, 'flat_top': flat_top}
)
PROBES: Mapping[str, Callable[[int], NDArray[np.complex128]]] = MappingProxyType({**CONFINED, 'diffuser': diffuser})


def make_probe(name: str, n: int, *, photons: float = 1.0, modes: int = 1) -> NDArray[np.complex128]:
    """The probe `name` of `PROBES`, (modes, n, n) complex in sqrt(counts), sum over the array of abs(P)^2 = `photons`.

    Raises ConfigError when the name is unknown, n is not divisible by 4 or below 16, photons is not positive or modes
    is not 1 to 16.
    """
    if name not in PROBES:
        raise ConfigError(f'The probe {quote(name)} is unknown; choose one of {", ".join(PROBES)}.')
    check_size(n)
    return probe_modes(scale_to_power(PROBES[name](n), photons), modes)


def scale_to_power(probe: NDArray[Any], photons: float) -> NDArray[np.complex128]:
    """The probe scaled to sum abs(P)^2 = `photons`; raises ConfigError when that is not a positive number."""
    if not (np.isfinite(photons) and photons > 0):
        raise ConfigError(f'photons is {photons}; it must be a positive number of photons incident per pattern.')
    return np.asarray(probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2)), dtype=np.complex128)


def probe_modes(
    probe: NDArray[Any], modes: int, *, powers: NDArray[np.float64] | None = None
) -> NDArray[np.complex128]:
    """Orthogonal incoherent modes (modes, N, N) of falling power built on `probe` (N, N), total power unchanged.

    The first is the probe itself; the others are it times products of Hermite polynomials of the coordinates, in
    growing order, made orthogonal. `powers` (modes,) are relative, by default each 0.35 of the one before. Raises
    ConfigError when modes is not 1 to 16, or powers are not as many positive numbers.
    """
    if not 1 <= modes <= MAX_MODES:
        raise ConfigError(f'modes is {modes}; it must be from 1 to {MAX_MODES}.')
    weights = MODE_DECAY ** np.arange(modes) if powers is None else np.asarray(powers, dtype=np.float64)
    if weights.shape != (modes,) or not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ConfigError(f'powers is {weights.tolist()}; {modes} positive numbers are needed, one for each mode.')
    main = np.asarray(probe, dtype=np.complex128)
    columns = np.stack([(main * shape).ravel() for shape in _hermite_products(main, modes)], axis=1)
    q, r = np.linalg.qr(columns)
    basis = (q * (np.diag(r) / np.abs(np.diag(r)))).T.reshape(modes, *main.shape)
    power = np.sum(np.abs(main) ** 2) * weights / weights.sum()
    return np.asarray(basis * np.sqrt(power)[:, None, None])


def energy_diameter(probe: NDArray[Any], share: float = 0.9) -> float:
    """Diameter in pixels of the circle about the probe's center of mass that holds `share` of its energy.

    `probe` (N, N) or (modes, N, N); the intensities of incoherent modes are added. Between the distances of pixels the
    energy inside is interpolated linearly. Two spots whose centers are this far apart count as 0 % overlap.
    """
    values = np.asarray(probe)
    intensity = (np.abs(values) ** 2).reshape(-1, *values.shape[-2:]).sum(axis=0)
    intensity = intensity / intensity.sum()
    row, col = ((intensity.sum(axis=1 - axis) * np.arange(n)).sum() for axis, n in enumerate(intensity.shape))
    rows, cols = np.indices(intensity.shape)
    distance = np.hypot(rows - row, cols - col).ravel()
    order = np.argsort(distance)
    return float(2 * np.interp(share, np.cumsum(intensity.ravel()[order]), distance[order]))


def check_size(n: int) -> None:
    """Raise ConfigError unless n pixels can be a pattern's side: divisible by 4 and at least 16."""
    if n % 4 or n < 16:
        raise ConfigError(f'N is {n}; the side of a pattern must be divisible by 4 and at least 16 pixels.')


def _hermite_products(probe: NDArray[np.complex128], modes: int) -> list[NDArray[np.float64]]:
    """H_i(row) H_j(column) by growing i + j; coordinates from the probe's center in units of its rms width."""
    weight = np.abs(probe) ** 2 / np.sum(np.abs(probe) ** 2)
    axes = []
    for axis in (0, 1):
        profile, x = weight.sum(axis=1 - axis), np.arange(probe.shape[axis], dtype=np.float64)
        x = x - profile @ x
        axes.append(x / np.sqrt(profile @ x**2))
    orders = [(total - j, j) for total in range(modes) for j in range(total + 1)][:modes]
    return [special.eval_hermitenorm(i, axes[0])[:, None] * special.eval_hermitenorm(j, axes[1]) for i, j in orders]


def _from_pupil(n: int, *, outer: float, inner: float, defocus: float) -> NDArray[np.complex128]:
    """Lengths in Fourier pixels at N = 64; `defocus` in pi rad at a spatial frequency of one cycle per pixel."""
    k = _radius(n)
    phase = np.pi * defocus * (n / REFERENCE_SIZE) * (k / REFERENCE_SIZE) ** 2
    pupil = special.expit(2 * (outer - k)) * np.exp(1j * phase)
    if inner > 0:
        pupil = pupil * special.expit(2 * (k - inner))
    return np.asarray(fft.fftshift(fft.ifft2(fft.ifftshift(pupil), norm='ortho')))


def _radius(n: int) -> NDArray[np.float64]:
    """Distance from [n//2, n//2] in pixels of a grid of 64."""
    x = (np.arange(n) - n // 2) * (REFERENCE_SIZE / n)
    return np.asarray(np.hypot(x[:, None], x))
