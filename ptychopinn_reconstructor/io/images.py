"""Pictures of objects: amplitude and phase, several side by side, differences from a truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..display.png import compute_limits
from .atomic import write_atomically
from .curves import Curves, draw_frc
from .drawing import (
    FIGURE_SIDE,
    TEXT_COLOR,
    Area,
    ColorScale,
    PixelSize,
    Row,
    add_color_bar,
    add_scale_bar,
    compute_extent,
    draw_image,
    draw_rows,
    make_figure,
    make_image_figure,
    save_figure,
    scale_amplitude,
    scale_difference,
    scale_phase,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..physics.phase_ramp import PhaseRamp

RAMP_SHOWN = 0.2  # rad over the picture: less of a ramp takes no colors from the object
_EVALUATION_SIDE, _FRC_HEIGHT = 2.7, 2.9  # inches of the longer side of a panel of an evaluation, and of its curves


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

    The phase is shown without its ramp where that spans more than RAMP_SHOWN; its color bar says so.

    Raises
    ------
    OutputError
        When a picture cannot be written.
    """
    paths = (Path(folder) / f'{prefix}_amplitude.png', Path(folder) / f'{prefix}_phase.png')
    for path, row in zip(paths, _scale_amplitude_phase(object[area] if area else object), strict=True):
        _write_picture(path, row.panels[0], row.scale, pixel_size, title)
    return paths


def draw_amplitude_phase(
    object: NDArray[np.complex64], *, pixel_size: PixelSize | None = None, title: str = ''
) -> Figure:
    """A figure of the amplitude and, beside it, the phase of an object (H, W), as `write_amplitude_phase` has them."""
    height, width = compute_extent(object.shape, pixel_size, FIGURE_SIDE)
    figure = make_figure(2 * (width + 1.0), height + 0.5)
    for axis, row in zip(figure.subplots(1, 2), _scale_amplitude_phase(object), strict=True):
        add_color_bar(figure, draw_image(axis, row.panels[0], row.scale, pixel_size), [axis], row.scale)
        add_scale_bar(axis, object.shape, pixel_size)
    figure.suptitle(title, fontsize=10, color=TEXT_COLOR)
    return figure


def _scale_amplitude_phase(object: NDArray[np.complex64]) -> tuple[Row, Row]:
    """The amplitude and the phase of an object (H, W), less its ramp, each with its color scale."""
    shown, ramp = without_ramp(object)
    amplitude: NDArray[Any] = np.abs(shown)
    phase: NDArray[Any] = _unwrap_about_mean(shown)
    scale = scale_phase(phase, 'phase (rad)' if ramp is None else 'phase − ramp (rad)')
    if scale.cyclic:
        phase = np.angle(shown)
    return Row(scale_amplitude(amplitude), [amplitude]), Row(scale, [phase])


def without_ramp(shown: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], PhaseRamp | None]:
    """An object (H, W) as it is shown, and the phase ramp that was removed for it; None: too little of one."""
    from ..physics.phase_ramp import PhaseRamp

    ramp = PhaseRamp.of(shown)
    if not max(map(abs, ramp.across(shown.shape))) > RAMP_SHOWN:
        return shown, None
    return ramp.remove_from(shown), ramp


def write_gray(
    folder: str | Path, object: NDArray[np.complex64], *, area: Area | None = None, prefix: str = 'reconstructed'
) -> tuple[Path, Path]:
    """Write what `write_amplitude_phase` does in gray, a pixel of the object each, with nothing around: at once.

    Raises OutputError when a picture cannot be written.
    """
    from PIL import Image

    shown, _ = without_ramp(object[area] if area else object)
    paths = (Path(folder) / f'{prefix}_amplitude.png', Path(folder) / f'{prefix}_phase.png')
    for path, values in zip(paths, (np.abs(shown), _unwrap_about_mean(shown, remove=True)), strict=True):
        low, high = compute_limits(values)
        gray = np.clip(255 * (np.nan_to_num(values, nan=low) - low) / (high - low), 0, 255).astype(np.uint8)
        with write_atomically(path) as temporary:
            Image.fromarray(gray).save(temporary, format='png', compress_level=1)
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
    shown = [values[area] if area else values for _, values in rows]
    amplitudes = [np.abs(values) for values in shown]
    phases = [_unwrap_about_mean(values, remove=True) for values in shown]
    height, width = compute_extent(shown[0].shape, pixel_size, 0.7 * FIGURE_SIDE)
    figure = make_figure(len(shown) * width + 1.0, 2 * height + (0.9 if title else 0.5))
    scales = (scale_amplitude(amplitudes[0]), scale_phase(phases[0], 'phase − mean (rad)'))
    above = Row(scales[0], amplitudes, [name for name, _ in rows])
    axes = draw_rows(figure, [above, Row(scales[1], phases)], pixel_size)
    add_scale_bar(axes[0, 0], shown[0].shape, pixel_size)
    if title:
        figure.suptitle(title, fontsize=11, color=TEXT_COLOR)
    return save_figure(figure, Path(path))


@dataclass(frozen=True, eq=False)
class ImagePair:
    """A result and its truth on the same pixels, (H, W) complex, with the unknown phase ramp and constant removed."""

    name: str
    result: NDArray[np.complex128]
    truth: NDArray[np.complex128]


def write_evaluation(
    path: str | Path, shown: Sequence[ImagePair], curves: Mapping[str, Curves], *, pixel_size: PixelSize | None = None
) -> Path:
    """Write one picture: the first truth beside all results, below them the differences from the truth, and `curves`.

    `curves` are Fourier ring correlations by name. Phases are shown about the mean of the first truth.

    Raises OutputError when the picture cannot be written.
    """
    truth = shown[0].truth
    height, width = compute_extent(truth.shape, pixel_size, _EVALUATION_SIDE)
    figure = make_figure(max((len(shown) + 1) * width + 1.0, 6.0), 4 * height + _FRC_HEIGHT + 0.6)
    parts: Any = figure.subfigures(2, 1, height_ratios=[4 * height + 0.4, _FRC_HEIGHT])
    axes = draw_rows(parts[0], _make_evaluation_rows(shown), pixel_size)
    add_scale_bar(axes[0, 0], truth.shape, pixel_size)
    draw_frc(parts[1].subplots(), curves)
    return save_figure(figure, Path(path))


def _make_evaluation_rows(shown: Sequence[ImagePair]) -> list[Row]:
    truth = shown[0].truth
    mean = np.exp(1j * np.angle(truth.sum()))
    images = [truth, *(one.result for one in shown)]
    amplitudes, phases = [np.abs(image) for image in images], [np.angle(image / mean) for image in images]
    phase = ColorScale('phase − mean (rad)', 'viridis', compute_limits(phases[0]))
    rows = [
        Row(scale_amplitude(amplitudes[0]), amplitudes, ['truth', *(one.name for one in shown)]),
        Row(phase, phases),
    ]
    labels = ('amplitude, result − truth', 'phase (rad), result − truth')
    return [*rows, *make_difference_rows([(one.truth, one.result) for one in shown], labels)]


def make_difference_rows(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], labels: tuple[str, str], titles: Sequence[str] = ()
) -> list[Row]:
    """Rows of differences, second less first of each pair of complex images: amplitudes above phases."""
    amplitudes = [np.abs(b) - np.abs(a) for a, b in pairs]
    phases = [np.angle(b * a.conj()) for a, b in pairs]
    scales = [scale_difference(label, panels) for label, panels in zip(labels, (amplitudes, phases), strict=True)]
    return [Row(scales[0], amplitudes, titles), Row(scales[1], phases)]


def _write_picture(
    path: Path, values: NDArray[Any], scale: ColorScale, pixel_size: PixelSize | None, title: str
) -> None:
    figure, axis = make_image_figure(values.shape, pixel_size, title=title)
    add_color_bar(figure, draw_image(axis, values, scale, pixel_size), [axis], scale)
    add_scale_bar(axis, values.shape, pixel_size)
    save_figure(figure, path)


def _unwrap_about_mean(values: NDArray[np.complex64], *, remove: bool = False) -> NDArray[np.float64]:
    """Phase in radians on the branch centered at its circular mean, so that values near it have no jump of 2 pi."""
    mean = float(np.angle(np.sum(values, dtype=np.complex128)))
    relative: NDArray[np.float64] = np.angle(values * np.exp(-1j * mean))
    return relative if remove else relative + mean
