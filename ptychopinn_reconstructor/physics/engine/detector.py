"""What the detector counts beside the diffraction of the object: a background, and a beam whose power varies.

| symbol | meaning                                                                   | unit   |
|--------|---------------------------------------------------------------------------|--------|
| I      | measured counts                                                           | counts |
| M      | sum over modes of abs(F(P O))^2, as `forward.diffract` predicts           | counts |
| s      | factor of a pattern on the power of the beam, its mean over the scan is 1 | 1      |
| b      | background of a pixel, the same in every pattern                          | counts |
| I_pred | s M + b                                                                   | counts |

Both are estimated along with the object, by a step of Fisher scoring of the Poisson likelihood after each pass, from
the score and the information that are summed over the pass (each batch just before its own step); see `background`
and `intensity`. Counts are never changed: s and b enter the prediction wherever there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import NUMPY, Array, Arrays
from ..forward import EPSILON_COUNTS
from ..prepare import PreparedScan

Switch = Literal['auto', 'on', 'off']


def scale_beam(prepared: PreparedScan, index: NDArray[np.int64], ramp: Array, arrays: Arrays = NUMPY) -> Array:
    """Ramps (b, N, N) that shift the probe for the patterns at `index`, times sqrt(s): as bright as the beam was."""
    if prepared.intensity is None:
        return ramp
    return ramp * arrays.put(np.sqrt(prepared.intensity[index])[:, None, None])


def add_background(prepared: PreparedScan, predicted: Array, arrays: Arrays = NUMPY) -> Array:
    """Predicted intensities (b, N, N) with b."""
    return predicted if prepared.background is None else predicted + arrays.put(prepared.background)


class DetectorTerms(NamedTuple):
    """Score and information (b,) of some `patterns`, and those (N, N) of the pixels, where they are wanted."""

    patterns: NDArray[np.int64]
    score: NDArray[np.float64]
    information: NDArray[np.float64]
    pixels: tuple[NDArray[np.float64], NDArray[np.float64]] | None


@dataclass(eq=False)
class DetectorSums:
    """Score and information of log s for each pattern, (n,), and of b at each pixel, (N, N), summed over patterns.

    Where `with_pixels` is not set, the latter stay zero.
    """

    pattern_score: NDArray[np.float64]
    pattern_information: NDArray[np.float64]
    pixel_score: NDArray[np.float64]
    pixel_information: NDArray[np.float64]
    with_pixels: bool

    @classmethod
    def empty(cls, prepared: PreparedScan, *, with_pixels: bool) -> DetectorSums:
        """Those of no pattern."""
        count, shape = len(prepared), (prepared.n_pixels,) * 2
        return cls(np.zeros(count), np.zeros(count), np.zeros(shape), np.zeros(shape), with_pixels)

    def measure(
        self,
        prepared: PreparedScan,
        index: NDArray[np.int64],
        counts: Array,
        predicted: Array,
        good: Array | None,
        arrays: Arrays = NUMPY,
    ) -> DetectorTerms:
        """What counts and predicted intensities (b, N, N) of the patterns at `index` add; `good` (N, N), None: all."""
        excess, light, pixels = counts - predicted, predicted, None
        if self.with_pixels or prepared.background is not None:
            weight = 1 / (predicted + EPSILON_COUNTS)
            if self.with_pixels:
                pixels = arrays.get((weight * excess).sum(axis=0)), arrays.get(weight.sum(axis=0))
            if prepared.background is not None:
                light = predicted - arrays.put(prepared.background)
                excess *= weight * light
                light = light * (weight * light)
        if good is not None:
            excess, light = excess * good, light * good
        return DetectorTerms(index, arrays.get(excess.sum(axis=(1, 2))), arrays.get(light.sum(axis=(1, 2))), pixels)

    @property
    def values(self) -> tuple[NDArray[np.float64], ...]:
        """All arrays."""
        return self.pattern_score, self.pattern_information, self.pixel_score, self.pixel_information

    def empty_part(self) -> DetectorSums:
        """Those of no pattern, for what one process of several finds."""
        a, b, c, d = (np.zeros_like(values) for values in self.values)
        return DetectorSums(a, b, c, d, self.with_pixels)

    def take(self, part: DetectorSums, index: NDArray[np.int64]) -> None:
        """Take in what was found of the patterns at `index`."""
        self.pattern_score[index], self.pattern_information[index] = (values[index] for values in part.values[:2])
        self.pixel_score += part.pixel_score
        self.pixel_information += part.pixel_information

    def add(self, terms: DetectorTerms) -> None:
        """Take in what some patterns add."""
        self.pattern_score[terms.patterns], self.pattern_information[terms.patterns] = terms.score, terms.information
        if terms.pixels is not None:
            self.pixel_score += terms.pixels[0]
            self.pixel_information += terms.pixels[1]
