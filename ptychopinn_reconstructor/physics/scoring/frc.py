"""Fourier ring correlation: down to which period two images of one object agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ...errors import InputError

TUKEY_FRACTION = 0.4  # share of the window's width that is tapered
NYQUIST = 0.5  # cycles per pixel


@dataclass(frozen=True, eq=False)
class FRC:
    """Fourier ring correlation of two images of n x n pixels.

    `curve` (n // 2,) is the correlation on the shells 1 to n // 2, `frequency` their spatial frequency in cycles per
    pixel, `half_bit` the half-bit threshold on them. `area` is the mean of the curve. The other three are the highest
    frequency (cycles per pixel; its inverse is a period in pixels) at which the curve falls below 0.5, 1/7 and
    half-bit: 0.5 where it never does, 0 where it is never above.
    """

    frequency: NDArray[np.float64]
    curve: NDArray[np.float64]
    half_bit: NDArray[np.float64]
    area: float
    frequency_half: float
    frequency_seventh: float
    frequency_half_bit: float

    def to_dict(self) -> dict[str, float]:
        """Plain floats, keys beginning with `frc_`, without the curve."""
        names = ('area', 'frequency_half', 'frequency_seventh', 'frequency_half_bit')
        return {f'frc_{name}': float(getattr(self, name)) for name in names}

    def to_json(self, pixel_size: tuple[float, float] | None = None) -> dict[str, Any]:
        """Everything in plain JSON types, the curve too.

        `area`; `resolution`: for `half` (0.5), `seventh` (1/7) and `half_bit` the last crossing as `frequency` (cycles
        per pixel), `pixels` (its period) and `nm` (with `pixel_size`, (height, width) in meters, of which the larger
        counts); None where nothing is above the threshold, or the size is unknown. `curve`: the lists `frequency`,
        `correlation` and `half_bit`.
        """
        unit = None if pixel_size is None else max(pixel_size) * 1e9
        found = {name: getattr(self, f'frequency_{name}') for name in ('half', 'seventh', 'half_bit')}
        return {
            'area': self.area,
            'resolution': {name: _resolution(frequency, unit) for name, frequency in found.items()},
            'curve': {
                'frequency': self.frequency.tolist(),
                'correlation': self.curve.tolist(),
                'half_bit': self.half_bit.tolist(),
            },
        }


def describe_half_data(resolution: Mapping[str, Mapping[str, float | None]]) -> str:
    """Resolution of the whole from the FRC of two halves (`resolution` of FRC.to_json), by the coarser criterion."""
    title, found = min(
        (('1/7', resolution['seventh']), ('half-bit', resolution['half_bit'])),
        key=lambda pair: pair[1]['frequency'] or 0,
    )
    pixels, nanometers = found['pixels'], found['nm']
    if pixels is None:
        return f'no frequency above {title}'
    size = '' if nanometers is None else f'{nanometers:.3g} nm'
    if (found['frequency'] or 0) >= NYQUIST:
        return f'{title} not reached: {pixels:.1f} px{f" ({size})" if size else ""} or better'
    return f'{title} at {pixels:.1f} px{f" = {size}" if size else ""}'


def format_resolution(found: Mapping[str, float | None]) -> str:
    """A resolution of `FRC.to_json` as text, in pixels and where that is known in nanometers."""
    if found['pixels'] is None:
        return 'none'
    nanometers = '' if found['nm'] is None else f' = {found["nm"]:.3g} nm'
    return f'{found["pixels"]:.2f} px{nanometers}{" or better" if found["pixels"] <= 1 / NYQUIST else ""}'


def _resolution(frequency: float, unit: float | None) -> dict[str, float | None]:
    pixels = 1 / frequency if frequency > 0 else None
    return {
        'frequency': frequency,
        'pixels': pixels,
        'nm': None if pixels is None or unit is None else pixels * unit,
    }


def frc(a: NDArray[Any], b: NDArray[Any]) -> FRC:
    """Fourier ring correlation of two aligned complex (or real) images (H, W) of the same shape.

    On the largest square from the upper left, each image less its mean, Tukey window 0.4, no smoothing. The half-bit
    threshold takes the number of Fourier pixels on a shell as the number of independent ones; it and 1/7 are those for
    two halves of the data and then tell the resolution of the whole, 0.5 that of one half. Raises InputError when
    shapes differ or are below 4 pixels. Source: van Heel & Schatz, J. Struct. Biol. 151, 250 (2005), equations 2, 17.
    """
    if a.shape != b.shape or a.ndim != 2 or min(a.shape) < 4:
        raise InputError(
            f'The images have shapes {a.shape} and {b.shape}; expected two of one shape, 4 pixels at least.'
        )
    n = min(a.shape)
    spectra = [_spectrum(image[:n, :n]) for image in (a, b)]
    shell, shells = _shells(n), n // 2

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(shell, values.ravel(), minlength=shells + 1)[1 : shells + 1], dtype=np.float64)

    power_a, power_b = (summed(np.abs(s) ** 2) for s in spectra)
    cross = summed((spectra[0] * spectra[1].conj()).real)
    curve = cross / np.maximum(np.sqrt(power_a * power_b), np.finfo(float).tiny)
    frequency = np.arange(1, shells + 1) / n
    half_bit = _half_bit(np.bincount(shell, minlength=shells + 1)[1 : shells + 1])
    crossings = (_last_crossing(frequency, curve - threshold) for threshold in (0.5, 1 / 7, half_bit))
    return FRC(frequency, curve, half_bit, float(curve.mean()), *crossings)


def tukey_window(size: int, fraction: float = TUKEY_FRACTION) -> NDArray[np.float64]:
    """Cosine-tapered window (size,), flat but for `fraction` of its width; zero at both ends."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) / (size - 1)
    return np.asarray(0.5 * (1 - np.cos(np.pi * np.clip(2 * distance / fraction, 0, 1))))


def _spectrum(image: NDArray[Any]) -> NDArray[np.complex128]:
    window = tukey_window(len(image))
    values = np.asarray(image, dtype=np.complex128)
    return np.asarray(fft.fft2((values - values.mean()) * window[:, None] * window))


def _shells(n: int) -> NDArray[np.intp]:
    k = np.rint(fft.fftfreq(n) * n)
    return np.rint(np.hypot(k[:, None], k)).astype(np.intp).ravel()


def _half_bit(count: NDArray[np.intp]) -> NDArray[np.float64]:
    root = np.sqrt(count)
    return np.asarray((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root))


def _last_crossing(frequency: NDArray[np.float64], above: NDArray[np.float64]) -> float:
    """The highest frequency at which `above` turns negative, interpolated."""
    positive = np.flatnonzero(above >= 0)
    if not positive.size:
        return 0.0
    i = int(positive[-1])
    if i == len(above) - 1:
        return NYQUIST
    return float(frequency[i] + (frequency[1] - frequency[0]) * above[i] / (above[i] - above[i + 1]))
