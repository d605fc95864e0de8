"""One picture of several results against a truth: amplitudes, phases, what they differ, Fourier ring correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .drawing import INK, Look, PixelSize, color_bar, draw, extent, figure_of, robust_limits, save, scale_bar
from .maps import Curves, draw_frc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

_SIDE, _FRC_HEIGHT = 2.7, 2.9  # inches of the longer side of a panel, and of the curves
_PERCENTILE = 99.5  # of the differences, that the colors reach to
Panel = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Shown:
    """A result and the truth on the same pixels, (H, W) complex, all that is not to be seen removed."""

    name: str
    result: NDArray[np.complex128]
    truth: NDArray[np.complex128]


def write_side_by_side(
    path: str | Path, shown: Sequence[Shown], curves: Mapping[str, Curves], *, pixel_size: PixelSize | None = None
) -> Path:
    """Write the picture: the truth of the first and all results above what each differs from its truth, and the curves.

    Phases are shown about the mean of the first truth. Raises OutputError when the picture cannot be written.
    """
    truth = shown[0].truth
    height, width = extent(truth.shape, pixel_size, _SIDE)
    columns = len(shown) + 1
    figure = figure_of(max(columns * width + 1.0, 6.0), 4 * height + _FRC_HEIGHT + 0.6)
    parts: Any = figure.subfigures(2, 1, height_ratios=[4 * height + 0.4, _FRC_HEIGHT])
    upper, lower = parts
    mean = np.exp(1j * np.angle(truth.sum()))
    amplitudes = [np.abs(truth), *(np.abs(one.result) for one in shown)]
    phases = [np.angle(image / mean) for image in (truth, *(one.result for one in shown))]
    rows = (
        (amplitudes, Look('amplitude', 'gray', robust_limits(amplitudes[0]))),
        (phases, Look('phase − mean (rad)', 'viridis', robust_limits(phases[0]))),
        _differences('amplitude', [np.abs(one.result) - np.abs(one.truth) for one in shown]),
        _differences('phase (rad)', [np.angle(one.result * one.truth.conj()) for one in shown]),
    )
    axes = upper.subplots(4, columns, squeeze=False)
    for line, (panels, look) in zip(axes, rows, strict=True):
        _row(upper, list(line), panels, look, pixel_size)
    for axis, name in zip(axes[0], ['truth', *(one.name for one in shown)], strict=True):
        axis.set_title(name, fontsize=10, color=INK)
    scale_bar(axes[0, 0], truth.shape, pixel_size)
    draw_frc(lower.subplots(), curves)
    return save(figure, Path(path))


def _differences(what: str, panels: Sequence[Panel]) -> tuple[Sequence[Panel], Look]:
    high = max(float(np.percentile(np.abs(values), _PERCENTILE)) for values in panels) or 1.0
    return panels, Look(f'{what}, result − truth', 'RdBu_r', (-high, high))


def _row(
    figure: SubFigure, axes: list[Axes], panels: Sequence[Panel], look: Look, pixel_size: PixelSize | None
) -> None:
    """Panels in the last axes of a row, one color bar; an axis that is left over stays empty."""
    for axis in axes[: len(axes) - len(panels)]:
        axis.set_axis_off()
    images = [draw(axis, values, look, pixel_size) for axis, values in zip(axes[-len(panels) :], panels, strict=True)]
    color_bar(figure, images[-1], axes, look)
