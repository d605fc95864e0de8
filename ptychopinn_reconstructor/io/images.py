"""Pictures of objects: amplitude and phase with color bars and a scale bar.

Drawn with matplotlib's Figure alone: no pyplot, no global state, no display.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Area = tuple[slice, slice]
PixelSize = tuple[float, float]
Limits = tuple[float, float]

_PERCENTILES = (0.5, 99.5)
_CYCLIC_ABOVE = 0.8 * 2 * math.pi  # a phase range that nearly closes the circle needs a cyclic color map
_SIDE, _DPI = 4.6, 160  # inches of the longer side of a picture, pixels per inch
_INK = '#222222'


@dataclass(frozen=True)
class _Look:
    label: str
    colors: str
    limits: Limits
    cyclic: bool = False


def write_amplitude_phase(
    folder: str | Path,
    object: NDArray[np.complex64],
    *,
    pixel_size: PixelSize | None = None,
    area: Area | None = None,
    title: str = '',
    prefix: str = 'reconstructed',
) -> tuple[Path, Path]:
    """Write `<prefix>_amplitude.png` and `<prefix>_phase.png` of an object and return their paths.

    Parameters
    ----------
    object
        (H, W) complex.
    pixel_size
        (height, width) of a pixel in meters; the scale bar counts pixels without it.
    area
        Slices of the illuminated part, which is what is shown and sets the color limits (percentiles 0.5 to 99.5).

    Raises
    ------
    OutputError
        When a picture cannot be written.
    """
    shown = object[area] if area else object
    paths = (Path(folder) / f'{prefix}_amplitude.png', Path(folder) / f'{prefix}_phase.png')
    amplitude: NDArray[Any] = np.abs(shown)
    phase: NDArray[Any] = _unwrapped_about_mean(shown)
    looks = (_amplitude_look(amplitude), _phase_look(phase))
    if looks[1].cyclic:
        phase = np.angle(shown)
    for path, values, look in zip(paths, (amplitude, phase), looks, strict=True):
        _write_picture(path, values, look, pixel_size, title)
    return paths


def write_comparison(
    path: str | Path,
    rows: Sequence[tuple[str, NDArray[np.complex64]]],
    *,
    pixel_size: PixelSize | None = None,
    area: Area | None = None,
    title: str = '',
) -> Path:
    """Write one picture of several objects side by side, amplitude above phase, and return its path.

    `rows` are (title, (H, W) complex object); the color limits are those of the first, usually the truth. Each phase
    is shown less its mean, which no diffraction pattern determines.

    Raises OutputError when the picture cannot be written.
    """
    shown = [(name, values[area] if area else values) for name, values in rows]
    amplitudes = [np.abs(values) for _, values in shown]
    phases = [_unwrapped_about_mean(values, remove=True) for _, values in shown]
    height, width = _extent(amplitudes[0].shape, pixel_size, 0.7 * _SIDE)
    figure = _figure(len(shown) * width + 1.0, 2 * height + (0.9 if title else 0.5))
    axes = figure.subplots(2, len(shown), squeeze=False)
    looks = (_amplitude_look(amplitudes[0]), _phase_look(phases[0], 'phase − mean (rad)'))
    for line, values, look in zip(axes, (amplitudes, phases), looks, strict=True):
        images = [_draw(axis, value, look, pixel_size) for axis, value in zip(line, values, strict=True)]
        _color_bar(figure, images[-1], list(line), look)
    for axis, (name, _) in zip(axes[0], shown, strict=True):
        axis.set_title(name, fontsize=10, color=_INK)
    _scale_bar(axes[0, 0], amplitudes[0].shape, pixel_size)
    if title:
        figure.suptitle(title, fontsize=11, color=_INK)
    return _save(figure, Path(path))


def _write_picture(path: Path, values: NDArray[Any], look: _Look, pixel_size: PixelSize | None, title: str) -> None:
    height, width = _extent(values.shape, pixel_size, _SIDE)
    figure = _figure(width + 0.9, height + (0.4 if title else 0.1))
    axis = figure.subplots()
    _color_bar(figure, _draw(axis, values, look, pixel_size), [axis], look)
    _scale_bar(axis, values.shape, pixel_size)
    if title:
        axis.set_title(title, fontsize=10, color=_INK)
    _save(figure, path)


def _unwrapped_about_mean(values: NDArray[np.complex64], *, remove: bool = False) -> NDArray[np.float64]:
    """Phase in radians on the branch centered at its circular mean, so that no value near the mean is torn apart."""
    mean = float(np.angle(np.sum(values, dtype=np.complex128)))
    relative: NDArray[np.float64] = np.angle(values * np.exp(-1j * mean))
    return relative if remove else relative + mean


def _amplitude_look(values: NDArray[Any]) -> _Look:
    return _Look('amplitude', 'gray', robust_limits(values))


def _phase_look(values: NDArray[Any], label: str = 'phase (rad)') -> _Look:
    low, high = robust_limits(values)
    if high - low <= _CYCLIC_ABOVE:
        return _Look(label, 'viridis', (low, high))
    return _Look(label, 'twilight', (-math.pi, math.pi), cyclic=True)


def robust_limits(values: NDArray[Any]) -> Limits:
    """Smallest and largest value shown: the percentiles 0.5 and 99.5, a little apart for a flat picture."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0.0, 1.0)
    if high - low < 1e-3 * max(1.0, abs(high)):  # a flat object: do not blow up rounding errors
        low, high = low - 0.05, high + 0.05
    return float(low), float(high)


def _extent(shape: tuple[int, ...], pixel_size: PixelSize | None, side: float) -> tuple[float, float]:
    """Height and width in inches of a picture whose longer side is `side`, never thinner than a third of it."""
    height, width = np.array(shape) * (pixel_size or (1.0, 1.0))
    longest = max(height, width)
    return side * max(height / longest, 1 / 3), side * max(width / longest, 1 / 3)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout='constrained', facecolor='white')


def _draw(axis: Axes, values: NDArray[Any], look: _Look, pixel_size: PixelSize | None) -> AxesImage:
    aspect = pixel_size[0] / pixel_size[1] if pixel_size else 1.0
    low, high = look.limits
    image = axis.imshow(values, cmap=look.colors, vmin=low, vmax=high, aspect=aspect, interpolation='antialiased')
    axis.set_axis_off()
    return image


def _color_bar(figure: Figure, image: AxesImage, axes: list[Axes], look: _Look) -> None:
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05, aspect=28)
    if look.cyclic:
        bar.set_ticks([i * math.pi / 2 for i in range(-2, 3)], labels=['−π', '−π/2', '0', 'π/2', 'π'])
    bar.set_label(look.label, fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, color=_INK, labelcolor=_INK, width=0.6)
    bar.outline.set_linewidth(0.6)


def scale_bar_length(width_px: int, pixel_width_m: float | None) -> tuple[float, str]:
    """Length in pixels and label of a scale bar of 1, 2 or 5 times a power of ten, at most a quarter of the width."""
    unit = 1.0 if pixel_width_m is None else pixel_width_m
    longest = max(width_px * unit / 4, unit)
    power = 10.0 ** math.floor(math.log10(longest) + 1e-9)
    length = max(step for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)) * power
    if pixel_width_m is None:
        return length, f'{length:g} px'
    label = f'{length * 1e6:g} µm' if length >= 0.9999e-6 else f'{length * 1e9:g} nm'
    return length / unit, label


def _scale_bar(axis: Axes, shape: tuple[int, ...], pixel_size: PixelSize | None) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    height, width = shape
    length, label = scale_bar_length(width, pixel_size[1] if pixel_size else None)
    left, bottom = 0.04 * width, 0.95 * height
    outline = [withStroke(linewidth=2.2, foreground='black', alpha=0.75)]
    bar = Rectangle((left, bottom - 0.014 * height), length, 0.014 * height, color='white', lw=0, path_effects=outline)
    axis.add_patch(bar)
    axis.text(
        left + length / 2, bottom - 0.025 * height, label,
        color='white', fontsize=9, ha='center', va='bottom', path_effects=outline,
    )  # fmt: skip


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format='png', metadata={'Software': None})
    return path
