"""From counts to the network's input, and the absolute amplitude of the probe.

Three scales, three functions: `counts_to_input` (what the network sees), `resolve_probe_power` (physics: the unit of
the probe and so of the object) and `compute_limits` in display.png (what a person sees). No other place scales data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..errors import ConfigError, ScanError
from .forward import measure, propagate

ProbePower = Literal['auto', 'absolute', 'from_counts']
ABSOLUTE_RANGE = (0.2, 1.1)  # mean abs(O)^2 of real objects: a ratio q inside it means that the probe is absolute
REGULARIZATION = 0.05  # of the back-projection, relative to the largest probe intensity
BLOCK_PIXELS = 2**17  # transformed at a time: they stay in the cache, twice as fast as a whole batch at N = 256
DARK = 0.01  # of the probe's largest far-field amplitude: below it the phase is rounding noise, and is faded out


class Gauge(NamedTuple):
    """The probe in sqrt(counts), the ratio q = mean counts / power handed in, and which choice was made.

    `raised`: by how much a power that was too small for the brightest patterns was raised to theirs; else 1. `held`:
    the power is what was asked for, and nothing that is found later may change it.
    """

    probe: NDArray[np.complex64]
    ratio: float
    choice: Literal['absolute', 'from_counts']
    raised: float = 1.0
    held: bool = True


def probe_power(probe: NDArray[Any]) -> float:
    """Sum of abs(P)^2 over modes and pixels, counts."""
    return float(np.sum(np.abs(probe) ** 2, dtype=np.float64))


def mode_contrast(probe: NDArray[Any]) -> float:
    """Contrast (variance / mean^2) of the speckle that modes of such powers make: 1 for one, 1/m for m alike."""
    powers = np.sum(np.abs(probe) ** 2, axis=(1, 2), dtype=np.float64)
    return float((powers**2).sum() / powers.sum() ** 2)


def resolve_probe_power(
    probe: NDArray[np.complex64], mean_counts: float, mode: ProbePower = 'auto', *, brightest: float = 0.0
) -> Gauge:
    """Bring a probe (modes, N, N) to sqrt(counts): trust its power, or rescale it to the gauge mean abs(O)^2 = 1.

    `auto` trusts it when q = mean counts / sum abs(P)^2 lies in 0.2 to 1.1, but raises it to the counts of the
    `brightest` patterns where they have more than 1.1 times as many: no object lets more light pass than there is.
    Raises ConfigError on an unknown mode.
    """
    power = probe_power(probe)
    ratio = mean_counts / power
    if mode == 'auto':
        mode = 'from_counts'
        if ABSOLUTE_RANGE[0] <= ratio <= ABSOLUTE_RANGE[1]:
            raised = brightest / power if brightest > ABSOLUTE_RANGE[1] * power else 1.0
            return Gauge((probe * np.sqrt(raised)).astype(np.complex64), ratio, 'absolute', raised, held=False)
    if mode == 'absolute':
        return Gauge(probe, ratio, mode)
    if mode == 'from_counts':
        return Gauge((probe * np.sqrt(ratio)).astype(np.complex64), ratio, mode)
    raise ConfigError(f"probe_power is {mode!r}; choose 'auto', 'absolute' or 'from_counts'.")


def mask_probe(probe: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """A probe (modes, N, N) set to zero outside the central circle of diameter N/2, its power held.

    Raises ScanError when nothing is left.
    """
    n_pixels = probe.shape[-1]
    square = (np.arange(n_pixels) - (n_pixels - 1) / 2) ** 2
    inside = np.where(square[:, None] + square <= (n_pixels / 4) ** 2, probe, 0)
    left = probe_power(inside)
    if not left:
        raise ScanError(
            f'The probe has no light within {n_pixels // 4} pixels of its center, so probe_mask leaves nothing of it; '
            'center the probe, or leave probe_mask out.'
        )
    return np.asarray(inside * np.sqrt(probe_power(probe) / left), dtype=np.complex64)


def support_size(n_pixels: int) -> int:
    """Side n = N/2 of the network's patch unless a model says otherwise (config.ModelConfig.patch_size)."""
    return n_pixels // 2


def crop_support(images: NDArray[Any], n: int) -> NDArray[Any]:
    """The central n x n of (..., N, N)."""
    low = (images.shape[-1] - n) // 2
    return images[..., low : low + n, low : low + n]


class NetworkInput(NamedTuple):
    """What the network sees of b patterns: `root4` (b, N, N) and `backprojection` (b, 2, n, n), both float32."""

    root4: NDArray[np.float32]
    backprojection: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class InputScaler:
    """Turns counts into the network's input for one probe (modes, N, N) in sqrt(counts); the strongest mode guides.

    `patch_size` is the side n of the network's patch, None: N/2.

    root4 = (sqrt(I)/s)^(1/2) with s = sqrt(sum abs(P)^2)/N, and the back-projection
    conj(P) F^-1{sqrt(I) t} / (abs(P)^2 + 0.05 max abs(P)^2), cropped to the support, real and imaginary, where
    t = F P / hypot(abs(F P), 0.01 max abs(F P)) is exp(i arg F P), faded out where the far field is dark.
    Bad pixels are filled with the intensity of the unscattered probe scaled to the pattern.
    """

    probe: NDArray[np.complex64]
    bad_pixels: NDArray[np.bool_] | None = None
    patch_size: int | None = None

    @property
    def support(self) -> int:
        """Side n of the network's patch and of the back-projection."""
        return self.patch_size or support_size(self.probe.shape[-1])

    @cached_property
    def _guide(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        strongest = self.probe[np.argmax((np.abs(self.probe) ** 2).sum(axis=(1, 2)))]
        field = propagate(strongest.astype(np.complex128))
        magnitude = np.abs(field)
        phase = field / np.hypot(magnitude, DARK * magnitude.max())
        intensity = np.abs(strongest) ** 2
        back = np.conj(strongest) / (intensity + REGULARIZATION * intensity.max())
        return phase.astype(np.complex64), crop_support(back, self.support).astype(np.complex64)

    @cached_property
    def _empty_pattern(self) -> NDArray[np.float32]:
        return np.asarray(measure(propagate(self.probe)[None])[0], dtype=np.float32)

    @cached_property
    def amplitude_unit(self) -> float:
        """s: the root mean square of the diffraction amplitude of the unscattered probe, sqrt(counts)."""
        return float(np.sqrt(probe_power(self.probe)) / self.probe.shape[-1])

    def counts_to_input(self, counts: NDArray[np.float32]) -> NetworkInput:
        """Network input of counts (b, N, N): the one place where counts are normalized."""
        n = self.support
        found = NetworkInput(
            np.empty(counts.shape, dtype=np.float32), np.empty((len(counts), 2, n, n), dtype=np.float32)
        )
        phase, back = self._guide
        step = max(1, BLOCK_PIXELS // counts[0].size)
        for start in range(0, len(counts), step):
            block = slice(start, start + step)
            amplitude = np.sqrt(self._fill_bad_pixels(counts[block]))
            wave = fft.ifft2(fft.ifftshift(amplitude, axes=(-2, -1)) * phase, norm='ortho')
            guess = crop_support(wave, n) * back
            found.root4[block] = np.sqrt(amplitude * np.float32(1 / self.amplitude_unit))
            found.backprojection[block, 0], found.backprojection[block, 1] = guess.real, guess.imag
        return found

    def _fill_bad_pixels(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.bad_pixels is None or not self.bad_pixels.any():
            return counts
        good = ~self.bad_pixels
        empty = self._empty_pattern
        level = counts[:, good].sum(axis=1) / max(float(empty[good].sum()), 1e-12)
        filled = counts.copy()
        filled[:, self.bad_pixels] = level[:, None] * empty[self.bad_pixels]
        return filled
