"""Placing a reconstruction on a truth: scan positions first, then sub-pixel shift, linear phase ramp, global phase.

The three couple: a ramp hides the correlation peak of a shift, and a shift blurs the phase difference that shows the
ramp. So each is found in turn, from the array that the others have left, a few times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .frc import tukey_window

MAX_SHIFT = 4.0  # pixels; a result further off belongs elsewhere and is not scored
ROUNDS = 3
GUARD = 24  # pixels around the area that feed the sub-pixel shift and are tapered, so that nothing rings inside
WHITENING = 0.5  # power of the cross spectrum's modulus divided out: 0 plain, 1 phase-only correlation
TINY = float(np.finfo(float).tiny)
SMALLEST_GAIN = 1e-9  # of coherence, that a shift must bring: rounding noise brings less
SIGNIFICANT = 5.0  # peak over rms of the correlation; the highest of random ones is 2 to 4, of one structure 7 and more


@dataclass(frozen=True)
class Alignment:
    """What was removed from a result: shift (pixels, result lies at truth + shift), ramp (rad/pixel), phase (rad).

    `coherence` is abs(sum R conj T) / sqrt(sum abs R^2 sum abs T^2) afterwards: 1 for the same object.
    """

    shift: tuple[float, float]
    ramp: tuple[float, float]
    phase: float
    coherence: float

    @property
    def distance(self) -> float:
        """Length of the shift in pixels."""
        return float(np.hypot(*self.shift))

    def to_dict(self) -> dict[str, float]:
        """Plain floats."""
        shift, ramp = self.shift, self.ramp
        values = {'shift_row': shift[0], 'shift_col': shift[1], 'ramp_row': ramp[0], 'ramp_col': ramp[1]}
        return {**values, 'global_phase': self.phase, 'coherence': self.coherence}


def align(
    result: NDArray[np.complex128], corner: tuple[float, float], truth: NDArray[np.complex128]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], Alignment]:
    """Bring `result` (H, W), sampled from array coordinates `corner` [row, column] on, onto `truth` (h, w).

    Returns the result placed by `corner` alone, the result less shift, ramp and global phase, and what was removed.
    A shift is taken only where the structure correlates and the shift brings the images closer, so that an object
    without structure is scored where it lies.
    """
    start, shift, ramp = np.asarray(corner, dtype=np.float64), np.zeros(2), np.zeros(2)
    placed = image = sample(result, start, truth.shape)
    for _ in range(ROUNDS):
        step, strength = _shift_between(image, truth)
        trial = sample(result, start + shift + step, truth.shape, ramp)
        if strength < SIGNIFICANT or _coherence(trial, truth) <= _coherence(image, truth) + SMALLEST_GAIN:
            break
        shift, ramp = shift + step, ramp + _ramp_between(trial, truth)
        image = sample(result, start + shift, truth.shape, ramp)
    ramp = ramp + _ramp_between(image, truth)
    flat = sample(result, start + shift, truth.shape, ramp)
    phase = float(np.angle(np.vdot(truth, flat)))
    (row, col), (ramp_row, ramp_col) = shift.tolist(), ramp.tolist()
    found = Alignment((row, col), (ramp_row, ramp_col), phase, _coherence(flat, truth))
    return placed, flat * np.exp(-1j * phase), found


def remove_ramp(image: NDArray[np.complex128], truth: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """`image` less the linear phase ramp and the global phase that it has against `truth`, both (h, w)."""
    flat = image * _plane(_ramp_between(image, truth), image.shape)
    return np.asarray(flat * np.exp(-1j * np.angle(np.vdot(truth, flat))))


def sample(
    image: NDArray[np.complex128],
    corner: NDArray[np.float64],
    shape: tuple[int, ...],
    ramp: NDArray[np.float64] | None = None,
) -> NDArray[np.complex128]:
    """`image` at array coordinates corner + (i, j), (h, w): whole pixels by cropping, the rest by a Fourier shift.

    A linear phase `ramp` (rad per pixel, zero in the middle) is removed before the shift, since it moves the spectrum
    over the edge of the band. Beyond the image its edge is repeated.
    """
    whole = np.rint(corner)
    fraction = corner - whole
    rows, cols = (
        np.clip(np.arange(-GUARD, size + GUARD) + int(w), 0, limit - 1)
        for w, size, limit in zip(whole, shape, image.shape, strict=True)
    )
    inside = (slice(GUARD, -GUARD),) * 2
    wide = image[np.ix_(rows, cols)]
    if ramp is not None:
        wide = wide * _plane(ramp, wide.shape, fraction)
    if not fraction.any():
        return wide[inside]
    mean = wide.mean()
    spectrum = fft.fft2((wide - mean) * _taper(len(rows))[:, None] * _taper(len(cols)))
    shifts = [np.exp(2j * np.pi * fft.fftfreq(n) * f) for n, f in zip(wide.shape, fraction, strict=True)]
    return np.asarray(fft.ifft2(spectrum * shifts[0][:, None] * shifts[1]) + mean)[inside]


def _taper(size: int) -> NDArray[np.float64]:
    """One inside and for a third of the guard, falling to zero at its outer end."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1])
    return np.asarray(0.5 * (1 - np.cos(np.pi * np.clip(1.5 * distance / GUARD, 0, 1))))


def _plane(
    ramp: NDArray[np.float64], shape: tuple[int, ...], offset: NDArray[np.float64] | tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.complex128]:
    """exp(-i ramp . x), x from the middle of the image less `offset`, so that the global phase stays apart."""
    rows, cols = (
        np.exp(-1j * r * (np.arange(n) - (n - 1) / 2 - o)) for r, n, o in zip(ramp, shape, offset, strict=True)
    )
    return np.asarray(rows[:, None] * cols)


def _coherence(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> float:
    """Largest normalized correlation of two images under any linear phase ramp."""
    product = a * b.conj() * _plane(_ramp_between(a, b), a.shape)
    return float(abs(product.sum()) / np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum()))


def _ramp_between(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Linear phase of a conj(b), rad per pixel [row, column]: the ramp under which they are most coherent."""
    product = a * b.conj()
    coarse = _coarse_peak(fft.fft2(product)) / product.shape
    return 2 * np.pi * _refined_peak(product, coarse)


def _shift_between(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> tuple[NDArray[np.float64], float]:
    """Pixels by which `a` lies further than `b`, and the height of the correlation peak over the rms correlation.

    The ramp between them is removed first; where they are too far apart for it to be seen, no ramp is the better
    guess, so that both are tried.
    """
    ramps = (_ramp_between(a, b), np.zeros(2))
    return max((_correlate(a * _plane(ramp, a.shape), b) for ramp in ramps), key=lambda found: found[1])


def _correlate(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> tuple[NDArray[np.float64], float]:
    window = np.outer(*(tukey_window(n) for n in a.shape))
    spectra = [fft.fft2((image - image.mean()) * window) for image in (a, b)]
    cross = spectra[0] * spectra[1].conj()
    cross = cross / np.maximum(np.abs(cross), TINY) ** WHITENING
    correlation = fft.ifft2(cross)
    modulus, size = np.abs(correlation), np.asarray(a.shape)
    step = _refined_peak(fft.fftshift(cross).conj(), _coarse_peak(correlation) / size) * size
    return step, float(modulus.max() / max(np.sqrt((modulus**2).mean()), TINY))


def _coarse_peak(values: NDArray[Any]) -> NDArray[np.float64]:
    """Signed FFT index [row, column] of the largest modulus."""
    index = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    return np.array([(i + n // 2) % n - n // 2 for i, n in zip(index, values.shape, strict=True)], dtype=np.float64)


def _refined_peak(values: NDArray[Any], coarse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequency (cycles per sample) near `coarse` that maximizes abs(sum V exp(-2 pi i u x)), to 1/500 of a bin.

    Source: Guizar-Sicairos et al., Opt. Lett. 33, 156 (2008), matrix multiplication in place of a padded FFT.
    """
    peak, bins = coarse.copy(), 1 / np.asarray(values.shape)
    for step in (1 / 8, 1 / 64, 1 / 512):
        grid = np.arange(-8, 9) * step
        trial = [p + grid * b for p, b in zip(peak, bins, strict=True)]
        rows, cols = (np.exp(-2j * np.pi * np.outer(u, np.arange(n))) for u, n in zip(trial, values.shape, strict=True))
        i, j = np.unravel_index(int(np.abs(rows @ values @ cols.T).argmax()), (len(grid), len(grid)))
        peak = np.array([trial[0][i], trial[1][j]])
    return peak
