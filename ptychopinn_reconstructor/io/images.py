"""Pictures of objects: amplitude and phase with color bars and a scale bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drawing import (
    INK,
    SIDE,
    Area,
    Look,
    PixelSize,
    color_bar,
    draw,
    extent,
    figure_of,
    robust_limits,
    save,
    scale_bar,
)

_CYCLIC_ABOVE = 0.8 * 2 * math.pi  # a phase range that nearly closes the circle needs a cyclic color map


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
    height, width = extent(amplitudes[0].shape, pixel_size, 0.7 * SIDE)
    figure = figure_of(len(shown) * width + 1.0, 2 * height + (0.9 if title else 0.5))
    axes = figure.subplots(2, len(shown), squeeze=False)
    looks = (_amplitude_look(amplitudes[0]), _phase_look(phases[0], 'phase − mean (rad)'))
    for line, values, look in zip(axes, (amplitudes, phases), looks, strict=True):
        images = [draw(axis, value, look, pixel_size) for axis, value in zip(line, values, strict=True)]
        color_bar(figure, images[-1], list(line), look)
    for axis, (name, _) in zip(axes[0], shown, strict=True):
        axis.set_title(name, fontsize=10, color=INK)
    scale_bar(axes[0, 0], amplitudes[0].shape, pixel_size)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return save(figure, Path(path))


def _write_picture(path: Path, values: NDArray[Any], look: Look, pixel_size: PixelSize | None, title: str) -> None:
    height, width = extent(values.shape, pixel_size, SIDE)
    figure = figure_of(width + 0.9, height + (0.4 if title else 0.1))
    axis = figure.subplots()
    color_bar(figure, draw(axis, values, look, pixel_size), [axis], look)
    scale_bar(axis, values.shape, pixel_size)
    if title:
        axis.set_title(title, fontsize=10, color=INK)
    save(figure, path)


def _unwrapped_about_mean(values: NDArray[np.complex64], *, remove: bool = False) -> NDArray[np.float64]:
    """Phase in radians on the branch centered at its circular mean, so that no value near the mean is torn apart."""
    mean = float(np.angle(np.sum(values, dtype=np.complex128)))
    relative: NDArray[np.float64] = np.angle(values * np.exp(-1j * mean))
    return relative if remove else relative + mean


def _amplitude_look(values: NDArray[Any]) -> Look:
    return Look('amplitude', 'gray', robust_limits(values))


def _phase_look(values: NDArray[Any], label: str = 'phase (rad)') -> Look:
    low, high = robust_limits(values)
    if high - low <= _CYCLIC_ABOVE:
        return Look(label, 'viridis', (low, high))
    return Look(label, 'twilight', (-math.pi, math.pi), cyclic=True)
