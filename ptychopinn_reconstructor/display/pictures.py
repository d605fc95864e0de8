"""Pictures of scans, probes and objects for a notebook: small, at once, without a plotting library."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .document import Picture
from .png import GRAYS, VIRIDIS, compute_limits, draw_values, phase_about_mean, shrink

SIDE = 480  # pixels of a picture at most, twice what it is shown at
PLACES_SIDE = 120  # of a picture of places, each a dot of so many pixels:
DOT = 3


def picture_values(values: NDArray[Any], caption: str, colors: NDArray[Any] = VIRIDIS) -> Picture:
    """Picture of real values (H, W) with their range in the caption."""
    low, high = compute_limits(values)
    return Picture.embed(draw_values(shrink(values, SIDE), colors), 'png', f'{caption}: {low:.3g} to {high:.3g}')


def picture_amplitude_phase(object: NDArray[np.complex64], which: str, note: str = '') -> list[Picture]:
    """Pictures of the amplitude and the phase about its mean of an object (H, W); `note` ends the phase's caption."""
    phase = picture_values(phase_about_mean(object), f'Phase {which}, rad')
    captioned = Picture(phase.address, f'{phase.caption}{note}')
    return [picture_values(np.abs(object), f'Amplitude {which}', GRAYS), captioned]


def picture_probe(probe: NDArray[np.complex64]) -> Picture:
    """Picture of the amplitude of a probe (modes, N, N), all modes together."""
    modes = f'{len(probe)} modes' if len(probe) > 1 else '1 mode'
    amplitude = np.sqrt(np.square(np.abs(probe)).sum(axis=0))
    return picture_values(amplitude, f'Amplitude of the probe, {modes}')


def picture_places(positions: NDArray[np.float64], values: NDArray[np.float64]) -> Picture:
    """Picture of scan positions (n, 2) [row, column], colored by the counts (n,) of the patterns."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    scale = (PLACES_SIDE - DOT) / max(float((high - low).max()), 1.0)
    shape = np.ceil((high - low) * scale).astype(int) + DOT
    canvas = np.full(shape, np.nan)
    at = np.rint((positions - low) * scale).astype(int)
    for row in range(DOT):
        for column in range(DOT):
            canvas[np.minimum(at[:, 0] + row, shape[0] - 1), np.minimum(at[:, 1] + column, shape[1] - 1)] = values
    return picture_values(canvas, f'{len(positions)} positions, colored by the counts of their patterns')
