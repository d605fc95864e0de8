"""Pictures of a probe: its modes, and its intensity along the beam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .drawing import TEXT_COLOR, ColorScale, PixelSize, add_scale_bar, compute_upper_limit, draw_image, make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SHOWN = 6
SIDE = 1.9  # inches of a mode


def draw_modes(probe: NDArray[np.complex64], *, pixel_size: PixelSize | None = None) -> Figure:
    """A figure of the first modes of a probe (modes, N, N): the phase as hue, the amplitude as brightness.

    Each mode has its own brightness, and its share of the power above it.
    """
    power = np.square(np.abs(probe)).sum(axis=(-2, -1), dtype=np.float64)
    shown = probe[:MOST_SHOWN]
    figure = make_figure(SIDE * max(len(shown), 2), SIDE + 0.3)
    for number, axis in enumerate(np.atleast_1d(figure.subplots(1, max(len(shown), 2)))):
        axis.set_axis_off()
        if number >= len(shown):
            continue
        axis.imshow(color_wave(shown[number]), interpolation='antialiased')
        if len(probe) > 1:
            axis.set_title(f'{power[number] / power.sum():.3g} of the power', fontsize=8, color=TEXT_COLOR)
        add_scale_bar(axis, shown[number].shape, pixel_size)
    return figure


def color_wave(wave: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Red, green, blue (H, W, 3) of a complex wave (H, W): the phase as hue, the amplitude as brightness."""
    from matplotlib.colors import hsv_to_rgb

    amplitude = np.abs(wave)
    hue = (np.angle(wave) / (2 * np.pi)) % 1.0
    bright = np.clip(amplitude / (amplitude.max() or 1.0), 0, 1)
    colors: NDArray[np.float64] = hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.85), bright], axis=-1))
    return colors


def draw_caustic(
    along: NDArray[np.float64], across: NDArray[np.float64], focus: float, *, units: tuple[str, str], width: float
) -> Figure:
    """A figure of the intensity (planes, N) along the beam, from left to right; `along` are the planes' places.

    `units` are those of `along` and of `width`, which is how wide N pixels are. The object lies at 0.
    """
    figure = make_figure(5.2, 2.4)
    axis = figure.subplots()
    root: NDArray[Any] = np.sqrt(across.T)
    scale = ColorScale('', 'magma', (0.0, compute_upper_limit(root)))
    image = draw_image(axis, root, scale, None)
    image.set_extent((float(along[0]), float(along[-1]), -width / 2, width / 2))
    axis.set_aspect('auto')
    axis.set_axis_on()
    axis.axvline(0, color='white', linewidth=0.9)
    axis.axvline(focus, color='white', linewidth=0.9, linestyle=':')
    axis.set_xlabel(f'behind the object ({units[0]}); line: the object, dots: where the probe is smallest', fontsize=8)
    axis.set_ylabel(units[1], fontsize=8)
    axis.tick_params(labelsize=8)
    return figure
