"""Pictures of curves: Fourier ring correlations, losses by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .drawing import TEXT_COLOR, make_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[float]]  # as in FRC.to_json: frequency, correlation, half_bit
Losses = Sequence[tuple[int, float, float | None]]  # epoch, training loss, validation loss


def draw_frc_figure(curves: Mapping[str, Curves], *, title: str = '') -> Figure:
    """A figure of Fourier ring correlations by name with the thresholds 0.5, 1/7 and half-bit."""
    figure = make_figure(5.6, 3.6)
    draw_frc(figure.subplots(), curves)
    if title:
        figure.suptitle(title, fontsize=10, color=TEXT_COLOR)
    return figure


def draw_frc(axis: Axes, curves: Mapping[str, Curves]) -> None:
    """Draw Fourier ring correlations by name, and the thresholds 0.5, 1/7 and half-bit, on an axis."""
    for name, curve in curves.items():
        axis.plot(curve['frequency'], curve['correlation'], label=name, linewidth=1.4)
    first = next(iter(curves.values()))
    axis.plot(first['frequency'], first['half_bit'], color=TEXT_COLOR, linewidth=0.8, label='half-bit')
    for level, style, name in ((0.5, '--', '0.5'), (1 / 7, ':', '1/7')):
        axis.axhline(level, color=TEXT_COLOR, linewidth=0.8, linestyle=style, label=name)
    axis.set(xlabel='spatial frequency (cycles / pixel)', ylabel='correlation', xlim=(0, 0.5), ylim=(-0.1, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, ncols=2, loc='lower left')


def draw_residuals(residuals: Sequence[float]) -> Figure:
    """A figure of the normalized residual during each pass over the data."""
    from matplotlib.ticker import MaxNLocator

    figure = make_figure(5.2, 2.4)
    axis = figure.subplots()
    axis.plot(range(1, len(residuals) + 1), residuals, marker='.', linewidth=1.4)
    if min(residuals) > 0:
        _make_logarithmic(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel='pass', ylabel='residual')
    axis.grid(alpha=0.3, which='both')
    return figure


def write_losses(path: str | Path, trainings: Mapping[str, Losses]) -> Path:
    """Write the picture of `draw_losses`; OutputError when it cannot be written."""
    return save_figure(draw_losses(trainings), Path(path))


def draw_losses(trainings: Mapping[str, Losses]) -> Figure:
    """A figure of the losses of trainings by name: training (line), validation (dashed) by epoch.

    The scale is logarithmic where all losses are positive.
    """
    figure = make_figure(6.4, 4.0)
    axis = figure.subplots()
    lowest = np.inf
    for i, (name, history) in enumerate(trainings.items()):
        epochs, losses, held_out = np.array(history, dtype=float).T
        style: dict[str, Any] = {'color': f'C{i}', 'marker': '.', 'linewidth': max(2.4 - 0.9 * i, 0.6)}
        axis.plot(epochs, losses, label=f'{name}, training', **style)
        if np.isfinite(held_out).any():
            axis.plot(epochs, held_out, label=f'{name}, validation', linestyle='--', **style)
        lowest = min(lowest, np.nanmin([losses, held_out]))
    if lowest > 0:
        _make_logarithmic(axis)
    axis.set(xlabel='epoch', ylabel='loss')
    axis.grid(alpha=0.3, which='both')
    axis.legend(fontsize=8)
    return figure


def _make_logarithmic(axis: Axes) -> None:
    """Set a logarithmic scale, labeled between the powers of ten too, since losses seldom span one."""
    from matplotlib.ticker import LogLocator

    axis.set_yscale('log')
    axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 4.0, 6.0)))
    axis.yaxis.set_major_formatter('{x:g}')
    axis.yaxis.set_minor_formatter('{x:g}')
