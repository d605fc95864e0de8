"""How a reconstruction is compared with a truth, and with the measurement.

| symbol | meaning                                                                   | unit                        |
|--------|---------------------------------------------------------------------------|-----------------------------|
| T      | truth on the area between the outermost patch centers, less a margin      | complex transmission        |
| R      | result on the same pixels: placed by its scan positions, then registered  | complex transmission        |
| ratio  | sum(abs R abs T) / sum(abs T ^2), the amplitude scale of R                 | 1                           |
| d      | arg(R conj T) after linear phase ramp and global phase are removed         | rad                         |

Amplitude errors are those of abs(R)/ratio - abs(T) with data range 0.4, phase errors those of d with range 2.4 rad:
both ranges are fixed, so that figures of different objects and methods compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import InputError
from ..geometry import scan_area
from ..residual import Residual, residual
from .frc import FRC, frc
from .pistons import remove_pistons, spot_labels
from .registration import MAX_SHIFT, Alignment, align
from .similarity import count_scales, ms_ssim, ssim

__all__ = [
    'AMPLITUDE_RANGE',
    'FRC',
    'LABELS',
    'LEADING',
    'PHASE_RANGE',
    'Comparison',
    'Residual',
    'compare',
    'frc',
    'residual',
    'ssim',
]

AMPLITUDE_RANGE = 0.4  # data range of amplitude PSNR and SSIM
PHASE_RANGE = 2.4  # rad, data range of phase PSNR and SSIM
HIGH_PASS_SIGMA = 12.0  # pixels: errors smoother than this are left out of the "hp" figures
SMALLEST_AREA = 16  # pixels along one side: less holds no shells and no structure to compare
PSNR_LIMIT = 200.0  # dB, reported for images that are equal to the last bit

LEADING: Mapping[str, str] = {  # the figures that a summary shows
    'phase_psnr': 'phase PSNR, dB',
    'amplitude_psnr': 'amplitude PSNR, dB',
    'frc_area': 'FRC area',
    'amplitude_ratio': 'amplitude ratio',
}
FIGURES: Mapping[str, str] = {
    'amplitude_ratio': 'amplitude ratio result / truth',
    'amplitude_psnr': 'amplitude PSNR, dB (range 0.4)',
    'amplitude_ssim': 'amplitude SSIM (range 0.4)',
    'amplitude_ms_ssim': 'amplitude MS-SSIM (range 0.4)',
    'amplitude_mae': 'amplitude MAE',
    'phase_psnr': 'phase PSNR, dB (range 2.4 rad)',
    'phase_ssim': 'phase SSIM (range 2.4 rad)',
    'phase_ms_ssim': 'phase MS-SSIM (range 2.4 rad)',
    'phase_mae': 'phase MAE, rad',
    'frc_area': 'FRC area (mean over shells)',
    'frc_frequency_half': 'FRC last crossing of 0.5, cycles/px',
    'frc_frequency_seventh': 'FRC last crossing of 1/7, cycles/px',
    'frc_frequency_half_bit': 'FRC last crossing of half-bit, cycles/px',
}
LABELS: Mapping[str, str] = {
    **FIGURES,
    'phase_psnr_global': 'phase PSNR after global phase only, dB (range 2.4 rad)',
    'phase_mae_global': 'phase MAE after global phase only, rad',
    'phase_psnr_hp': 'phase PSNR, high-passed at 12 px, dB (range 2.4 rad)',
    'phase_mae_hp': 'phase MAE, high-passed at 12 px, rad',
    'shift_row': 'registration shift, rows, px',
    'shift_col': 'registration shift, columns, px',
    'ramp_row': 'linear phase ramp removed, rows, rad/px',
    'ramp_col': 'linear phase ramp removed, columns, rad/px',
    'global_phase': 'global phase removed, rad',
    'coherence': 'coherence with the truth after registration',
    **{f'{key}_raw': f'{label}, as reconstructed' for key, label in FIGURES.items()},
}


@dataclass(frozen=True, eq=False)
class Figures:
    """An image against a truth; figures as in `LABELS`."""

    amplitude_ratio: float
    amplitude_psnr: float
    amplitude_ssim: float
    amplitude_ms_ssim: float
    amplitude_mae: float
    phase_psnr: float
    phase_ssim: float
    phase_ms_ssim: float
    phase_mae: float
    frc: FRC

    @classmethod
    def of(cls, image: NDArray[np.complex128], truth: NDArray[np.complex128], *, raw: bool = False) -> Figures:
        """Those of two images (H, W); `raw` takes the amplitude as it is instead of dividing it by the ratio."""
        true_amplitude, true_phase = np.abs(truth), np.angle(truth)
        ratio = float((np.abs(image) * true_amplitude).sum() / (true_amplitude**2).sum())
        amplitude = np.abs(image) / (1.0 if raw else ratio)
        phase = np.angle(image * truth.conj())
        return cls(
            amplitude_ratio=ratio,
            amplitude_psnr=_psnr(amplitude - true_amplitude, AMPLITUDE_RANGE),
            amplitude_ssim=ssim(amplitude, true_amplitude, AMPLITUDE_RANGE),
            amplitude_ms_ssim=ms_ssim(amplitude, true_amplitude, AMPLITUDE_RANGE),
            amplitude_mae=_mae(amplitude - true_amplitude),
            phase_psnr=_psnr(phase, PHASE_RANGE),
            phase_ssim=ssim(true_phase + phase, true_phase, PHASE_RANGE),
            phase_ms_ssim=ms_ssim(true_phase + phase, true_phase, PHASE_RANGE),
            phase_mae=_mae(phase),
            frc=frc(image, truth),
        )

    def to_dict(self) -> dict[str, float]:
        """Plain finite floats."""
        own = {key: float(getattr(self, key)) for key in FIGURES if not key.startswith('frc_')}
        return {**own, **self.frc.to_dict()}


@dataclass(frozen=True, eq=False)
class Comparison(Figures):
    """A result against a truth, after the ambiguities are removed; `raw` holds the figures before that.

    `result` and `truth` are the aligned complex arrays (H, W) of the evaluated area, the result with shift, ramp and
    global phase removed but not divided by `amplitude_ratio`; `area` is their window in the truth's array; `frc` the
    whole Fourier ring correlation. Raw figures are of the result as its scan positions place it, nothing removed.
    """

    raw: Figures
    phase_psnr_global: float
    phase_mae_global: float
    phase_psnr_hp: float
    phase_mae_hp: float
    alignment: Alignment
    result: NDArray[np.complex128]
    truth: NDArray[np.complex128]
    area: tuple[slice, slice]

    @property
    def phase_psnr_raw(self) -> float:
        """Phase PSNR as reconstructed, dB."""
        return self.raw.phase_psnr

    @property
    def phase_mae_raw(self) -> float:
        """Phase MAE as reconstructed, rad."""
        return self.raw.phase_mae

    def to_dict(self) -> dict[str, float]:
        """Plain finite floats under the keys of `LABELS`.

        Then the data ranges, the number of scales of MS-SSIM (5, fewer for a small area) and the area's size in pixels.
        """
        further = ('phase_psnr_global', 'phase_mae_global', 'phase_psnr_hp', 'phase_mae_hp')
        height, width = self.truth.shape
        return {
            **super().to_dict(),
            **{key: float(getattr(self, key)) for key in further},
            **self.alignment.to_dict(),
            **{f'{key}_raw': value for key, value in self.raw.to_dict().items()},
            'amplitude_range': AMPLITUDE_RANGE,
            'phase_range_rad': PHASE_RANGE,
            'ms_ssim_scales': float(count_scales(self.truth.shape)),
            'area_rows': float(height),
            'area_cols': float(width),
        }

    def to_json(self, pixel_size: tuple[float, float] | None = None) -> dict[str, Any]:
        """`to_dict` with both Fourier ring correlations whole (`FRC.to_json`) as `frc` and `frc_raw`."""
        curves = {'frc': self.frc.to_json(pixel_size), 'frc_raw': self.raw.frc.to_json(pixel_size)}
        return {**self.to_dict(), **curves}


def compare(
    result: NDArray[Any],
    result_origin: tuple[float, float],
    truth: NDArray[Any],
    truth_origin: tuple[float, float],
    positions: NDArray[np.float64],
    *,
    margin: int = 4,
    pistons: bool = False,
) -> Comparison:
    """Score a reconstructed object against the true one on the area that the scan covers.

    Parameters
    ----------
    result, truth
        (H, W) complex, each on its own canvas.
    result_origin, truth_origin
        [row, column]: array index = position + origin.
    positions
        (n, 2) patch centers [row, column] in object pixels, of the same scan for both.
    margin
        Pixels left out inside the outermost patch centers: 4 for simulated scans, 8 for the Siemens star.
    pistons
        Remove the phase factor of each probe spot too, before and after registration: for scans without overlap, whose
        spots know nothing of each other's phase (see pistons.py). The `raw` and `global` figures keep it.

    Raises
    ------
    InputError
        When the area is smaller than 16 pixels or not covered by both objects, when a value is not finite or the
        result is zero, or when the registration shift exceeds 4 pixels.
    """
    area = _area(np.asarray(positions, dtype=np.float64), truth_origin, margin)
    _check(truth, 'truth', area, (0.0, 0.0))
    offset = (float(result_origin[0] - truth_origin[0]), float(result_origin[1] - truth_origin[1]))
    _check(result, 'result', area, offset)
    true = np.asarray(truth[area], dtype=np.complex128)
    corner = (area[0].start + offset[0], area[1].start + offset[1])
    image = np.asarray(result, dtype=np.complex128)
    placed, aligned, alignment = align(image, corner, true)
    if pistons:
        labels = spot_labels(np.asarray(positions), truth_origin, area)
        _, aligned, alignment = align(remove_pistons(placed, true, labels), (0.0, 0.0), true)
        aligned = remove_pistons(aligned, true, labels)
    if alignment.distance > MAX_SHIFT:
        raise InputError(
            f'The result is shifted by {alignment.distance:.1f} pixels against the truth, more than {MAX_SHIFT:g}; '
            'check that positions and origins belong to this object.'
        )
    return _score(placed, aligned, true, alignment, area)


def check_truth(
    truth: NDArray[Any], origin: tuple[float, float], positions: NDArray[np.float64], *, margin: int = 4
) -> None:
    """Refuse what `compare` would refuse of a truth, before there is a result: InputError, arguments as there."""
    _check(truth, 'truth', _area(np.asarray(positions, dtype=np.float64), origin, margin), (0.0, 0.0))


def _score(
    placed: NDArray[np.complex128],
    aligned: NDArray[np.complex128],
    truth: NDArray[np.complex128],
    alignment: Alignment,
    area: tuple[slice, slice],
) -> Comparison:
    figures = Figures.of(aligned, truth)
    phase = np.angle(aligned * truth.conj())
    after_global = np.angle(placed * truth.conj() * np.exp(-1j * np.angle(np.vdot(truth, placed))))
    rough = high_pass(phase)
    return Comparison(
        **vars(figures),
        raw=Figures.of(placed, truth, raw=True),
        phase_psnr_global=_psnr(after_global, PHASE_RANGE),
        phase_mae_global=_mae(after_global),
        phase_psnr_hp=_psnr(rough, PHASE_RANGE),
        phase_mae_hp=_mae(rough),
        alignment=alignment,
        result=aligned,
        truth=truth,
        area=area,
    )


def default_margin(n_pixels: int | None) -> int:
    """Pixels left out of a comparison for patterns of `n_pixels`: 4 at N = 64, 8 at N = 128, 4 where N is unknown."""
    return 4 if n_pixels is None else n_pixels // 16


def _psnr(error: NDArray[np.float64], data_range: float) -> float:
    floor = data_range**2 * 10 ** (-PSNR_LIMIT / 10)
    return float(10 * np.log10(data_range**2 / max(float(np.mean(error**2)), floor)))


def _mae(error: NDArray[np.float64]) -> float:
    return float(np.abs(error).mean())


def high_pass(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """A phase (H, W), radians, without what is smoother than `HIGH_PASS_SIGMA` pixels."""
    phasor = np.exp(1j * phase)
    smooth = ndimage.gaussian_filter(phasor.real, HIGH_PASS_SIGMA) + 1j * ndimage.gaussian_filter(
        phasor.imag, HIGH_PASS_SIGMA
    )
    return np.asarray(np.angle(phasor * smooth.conj()))


def _area(positions: NDArray[np.float64], origin: tuple[float, float], margin: int) -> tuple[slice, slice]:
    area = scan_area(positions, origin, margin)
    rows, cols = (max(window.stop - window.start, 0) for window in area)
    if min(rows, cols) < SMALLEST_AREA:
        raise InputError(
            f'The area between the outermost patch centers less {margin} pixels is {rows} x {cols} pixels; at least '
            f'{SMALLEST_AREA} x {SMALLEST_AREA} are needed to compare images: use a larger scan or a smaller margin.'
        )
    return area


def _check(image: NDArray[Any], name: str, area: tuple[slice, slice], offset: tuple[float, float]) -> None:
    if image.ndim != 2:
        raise InputError(f'The {name} has shape {image.shape}; expected (H, W): one complex object.')
    for axis, window in enumerate(area):
        low, high = window.start + offset[axis], window.stop - 1 + offset[axis]
        if low < -0.5 or high > image.shape[axis] - 0.5:
            raise InputError(
                f'The scan covers {"rows" if axis == 0 else "columns"} {low:.1f} to {high:.1f} of the {name}, which '
                f'has {image.shape[axis]}; check its origin and that it belongs to this scan.'
            )
    if not np.isfinite(image).all():
        raise InputError(f'The {name} holds NaN or infinity; it cannot be compared.')
    if not np.abs(image).max() > 0:
        raise InputError(f'The {name} is zero everywhere; it cannot be compared.')
