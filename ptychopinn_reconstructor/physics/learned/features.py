"""What the network of the learned step sees of a canvas, all of it without units and free of the global phase.

| symbol | meaning                                                                  | unit          |
|--------|--------------------------------------------------------------------------|---------------|
| O      | object so far, turned so that its mean has phase 0                       | transmission  |
| G      | the engine's direction, sum conj(P_f) d over all patterns (`engine.update`) | counts     |
| W      | illumination, sum abs(P_f)^2, at least a twentieth of what is typical     | counts       |
| s      | 1 / sqrt(2 W), what counting noise leaves of a pixel                      | transmission  |
| M      | misfit of the patterns in units of counting noise, spread with their light | 1           |

The probe enters through G, W and M alone, so that one network serves all probes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LIT, DIM = 0.1, 0.05  # of the largest illumination: what is typical is the median above; of the typical: W at least
PRECISION = 20.0  # counts beside W in Newton's step
LARGEST_SCORE, LARGEST_STEP = 8.0, 4.0
SMALLEST, LARGEST = 0.008, 0.25  # of s
MISFIT = -1.0, 4.0
UNKNOWN = 0.15  # of the typical illumination: with less the correction fades


class Evidence(NamedTuple):
    """What the patterns say of a canvas: G, W and M, (H, W) each."""

    direction: NDArray[np.complex64]
    light: NDArray[np.float32]
    misfit: NDArray[np.float32]

    def part(self, window: tuple[slice, slice]) -> Evidence:
        """The same of a window of the canvas."""
        return Evidence(self.direction[window], self.light[window], self.misfit[window])


def typical_light(light: NDArray[np.float32]) -> float:
    """Median of an illumination (H, W), in counts, where it is lit."""
    return float(np.median(light[light > LIT * light.max()]))


def describe_canvas(canvas: NDArray[np.complex64], evidence: Evidence, typical: float) -> NDArray[np.float32]:
    """Channels (9, H, W) of a canvas (H, W), or of a window of it, where so many counts are typical."""
    light = np.maximum(evidence.light, DIM * typical)
    score = _limit(2 * evidence.direction / np.sqrt(light), LARGEST_SCORE)
    newton = _limit(4 * evidence.direction / (light + PRECISION), LARGEST_STEP)
    parts = [part for image in (canvas, score, newton) for part in (image.real, image.imag)]
    noise = 0.5 * np.log(noise_level(evidence.light, typical) / 0.05)
    relative = 0.5 * np.log(light / typical)
    return np.stack([*parts, noise, relative, np.clip(evidence.misfit - 1, *MISFIT)]).astype(np.float32)


def noise_level(light: NDArray[np.float32], typical: float) -> NDArray[np.float32]:
    """s (H, W): the unit of the network's correction."""
    noise = 1 / np.sqrt(2 * np.maximum(light, DIM * typical))
    return np.asarray(np.clip(noise, SMALLEST, LARGEST), dtype=np.float32)


def known_share(light: NDArray[np.float32], typical: float) -> NDArray[np.float32]:
    """How much of the correction is applied, (H, W), 0 to 1: nothing where there is no light."""
    return np.asarray(np.clip(light / (UNKNOWN * typical), 0, 1), dtype=np.float32)


def _limit(image: NDArray[np.complexfloating[Any, Any]], largest: float) -> NDArray[np.complex64]:
    return np.asarray(image * np.minimum(1, largest / np.maximum(np.abs(image), 1e-9)), dtype=np.complex64)
