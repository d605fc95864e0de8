"""Pictures of a diagnosis: the first trial beside the last one, with all that was mended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..io.drawing import ColorScale, Row, draw_rows, make_figure, save_figure, scale_amplitude, scale_phase
from .finding import TrialImages

SIDE = 3.4  # inches of a panel


def write_trials(path: Path, trials: Sequence[TrialImages]) -> Path:
    """Draw amplitude, phase, measured and predicted mean pattern of trials side by side; returns the path.

    Raises OutputError when the file cannot be written.
    """
    amplitudes = [np.abs(trial.object) for trial in trials]
    phases = [np.angle(trial.object / _unit(trial.object.mean())) for trial in trials]
    patterns = [[_logarithm(getattr(trial, name)) for trial in trials] for name in ('measured', 'predicted')]
    rows = [
        Row(scale_amplitude(amplitudes[-1]), amplitudes, [trial.title for trial in trials]),
        Row(scale_phase(phases[-1]), phases),
    ]
    limits = (0.0, float(np.max(patterns)))
    for name, panels in zip(('measured', 'predicted'), patterns, strict=True):
        rows.append(Row(ColorScale(f'{name} mean, log10(1 + counts)', 'magma', limits), panels))
    figure = make_figure(SIDE * len(trials) + 1.2, SIDE * len(rows))
    draw_rows(figure, rows)
    return save_figure(figure, path)


def _unit(value: complex) -> complex:
    return value / abs(value) if value else 1.0


def _logarithm(counts: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.log10(1 + counts), dtype=np.float64)
