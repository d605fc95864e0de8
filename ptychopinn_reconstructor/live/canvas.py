"""A canvas that grows: contributions of patches where they fall, and the object that they make.

The symbols are those of physics/stitching: u = w o of a patch, and the object (sum u + eps) / (sum w + eps). A place of
the grid is a whole number of pixels from one that never moves; the arrays hold a part of the grid that grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..physics.geometry import patch_slice

GROWTH = 0.5  # of what there is; growing by little would copy the canvas for each line of a scan
FARTHEST = (
    4.0  # times what there is, or would be of a few patterns: a position beyond is lost, as a slip of the encoder
)
FEW = 8  # windows side by side
FAINT = 1e-9  # of a patch's own power: an overlap that is none


@dataclass(eq=False)
class LiveCanvas:
    """Sums of u and w for windows of `n_pixels`, on the grid on which index = position + `anchor`.

    `epsilon` in counts is what probe power is faint.
    """

    n_pixels: int
    anchor: NDArray[np.float64]
    epsilon: float
    _sum: NDArray[np.complex64] = field(default_factory=lambda: np.zeros((0, 0), np.complex64))
    _weight: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    _low: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))  # place of the arrays' first pixel
    _begin: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))  # of what is used
    _end: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))

    @classmethod
    def about(cls, position: NDArray[np.float64], n_pixels: int, epsilon: float) -> LiveCanvas:
        """An empty canvas on whose grid the window of this position (2,) begins at a whole pixel."""
        return cls(n_pixels, (n_pixels - 1) / 2 - position, epsilon)

    @classmethod
    def of_object(
        cls, values: NDArray[np.complex64], origin: tuple[float, float], weight: NDArray[np.float32], n: int, eps: float
    ) -> LiveCanvas:
        """An object (H, W), known by `weight` in counts, on its own grid: index = position + `origin`."""
        one = cls(n, np.array(origin, dtype=np.float64), eps)
        one._end = np.array(values.shape)
        one._weight = weight.astype(np.float32)
        one._sum = (values * (one._weight + np.float32(eps)) - np.float32(eps)).astype(np.complex64)
        return one

    def place(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Corners (k, 2) on the grid of the windows at positions (k, 2), and what rounding left of them."""
        exact = positions + self.anchor - (self.n_pixels - 1) / 2
        corners = np.rint(exact).astype(np.int64)
        return corners, exact - corners

    def reaches(self, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the windows at corners (k, 2) are not absurdly far from what there is, or from most of them."""
        reach = FARTHEST * np.maximum(self._used, FEW * self.n_pixels)
        middle = (self._begin + self._end - self.n_pixels) / 2 if self._used.any() else np.median(corners, axis=0)
        return np.asarray((np.abs(corners - middle) <= reach).all(axis=1))

    @property
    def _used(self) -> NDArray[np.int64]:
        return self._end - self._begin

    @property
    def origin(self) -> tuple[float, float]:
        """Index in `object` [row, column] of the position (0, 0)."""
        row, column = self.anchor - self._begin
        return float(row), float(column)

    @property
    def begin(self) -> NDArray[np.int64]:
        """Place on the grid of the first pixel of `object`."""
        return self._begin

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of `object`."""
        return int(self._used[0]), int(self._used[1])

    def object(self) -> NDArray[np.complex64]:
        """The object so far, (H, W): 1 where nothing has been added."""
        return self.crop(self._begin, self._end)

    def weight(self) -> NDArray[np.float32]:
        """Sum of the weights so far, (H, W), in counts."""
        return self.weight_between(self._begin, self._end)

    def weight_between(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float32]:
        """The same between two places of the grid."""
        return self._weight[self._slices(first, last)].copy()

    def every(self, step: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Every `step`-th pixel of `object` and of `weight`, along rows and columns."""
        where, eps = self._slices(self._begin, self._end), np.float32(self.epsilon)
        weight = self._weight[where][::step, ::step]
        return np.asarray((self._sum[where][::step, ::step] + eps) / (weight + eps), dtype=np.complex64), weight

    def grow(self, corners: NDArray[np.int64]) -> None:
        """Make room for windows at corners (k, 2)."""
        low, high = corners.min(axis=0), corners.max(axis=0) + self.n_pixels
        if self._used.any():
            low, high = np.minimum(low, self._begin), np.maximum(high, self._end)
        end = self._low + self._sum.shape
        if (low < self._low).any() or (high > end).any():
            spare = np.maximum((GROWTH * (high - low)).astype(np.int64), self.n_pixels)
            first = low if not self._sum.size else np.where(low < self._low, low - spare, self._low)
            last = high if not self._sum.size else np.where(high > end, high + spare, end)
            self._move(first, last)
        self._begin, self._end = low, high

    def _move(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        shape = (int(last[0] - first[0]), int(last[1] - first[1]))
        row, column = (int(at) for at in self._low - first)
        height, width = self._sum.shape
        for name, values in (('_sum', self._sum), ('_weight', self._weight)):
            larger = np.zeros(shape, values.dtype)
            larger[row : row + height, column : column + width] = values
            setattr(self, name, larger)
        self._low = first

    def add(
        self,
        u: NDArray[np.complex64],
        weight: NDArray[np.float32],
        corners: NDArray[np.int64],
        phases: NDArray[np.float64] | None = None,
    ) -> None:
        """Add contributions u (k, n, n) with their weights, turned by -phases; None: each as it fits to what is there.

        The windows, of which the patches are the middle, begin at corners (k, 2); there is room for them.
        """
        inset = (self.n_pixels - u.shape[-1]) // 2
        for number, (one, light, corner) in enumerate(zip(u, weight, corners, strict=True)):
            where = patch_slice(corner - self._low, u.shape[-1], inset)
            there = self._sum[where]
            phase = _phase_against(there, one) if phases is None else phases[number]
            there += one * np.complex64(np.exp(-1j * phase))
            self._weight[where] += light

    def overlap(self, u: NDArray[np.complex64], corner: NDArray[np.int64]) -> complex:
        """<canvas, u> of one patch (n, n) whose window begins at a corner (2,)."""
        inset = (self.n_pixels - u.shape[-1]) // 2
        return complex(np.vdot(self._sum[patch_slice(corner - self._low, u.shape[-1], inset)], u))

    def crop(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.complex64]:
        """The object between two places of the grid."""
        where, eps = self._slices(first, last), np.float32(self.epsilon)
        return np.asarray((self._sum[where] + eps) / (self._weight[where] + eps), dtype=np.complex64)

    def replace(self, first: NDArray[np.int64], values: NDArray[np.complex64]) -> None:
        """Put another object (h, w) at a place of the grid; how well it is known stays."""
        where, eps = self._slices(first, first + values.shape), np.float32(self.epsilon)
        self._sum[where] = values * (self._weight[where] + eps) - eps

    def turn(self, phase: NDArray[np.float32], light: NDArray[np.float32]) -> None:
        """Turn the object (H, W) by a phase, in radians, so that its mean weighted by `light` (H, W) stays as it is."""
        mean = np.float32(np.average(phase, weights=light) if light.any() else 0.0)
        self._sum[self._slices(self._begin, self._end)] *= np.exp(1j * (phase - mean)).astype(np.complex64)

    def normalize(self, scale: float = 1.0) -> None:
        """Multiply the object by `scale`, and turn it so that its weighted mean is real and positive."""
        mean = complex(self._sum.sum(dtype=np.complex128))
        self._sum *= np.complex64(scale * (np.conj(mean) / abs(mean) if abs(mean) > 0 else 1.0))

    def copy(self) -> LiveCanvas:
        """A canvas that can be changed without this one."""
        return self._like(self._sum.copy(), self._weight.copy())

    def emptied(self) -> LiveCanvas:
        """An empty canvas that reaches as far."""
        return self._like(np.zeros_like(self._sum), np.zeros_like(self._weight))

    def _like(self, total: NDArray[np.complex64], weight: NDArray[np.float32]) -> LiveCanvas:
        ends = (self._low.copy(), self._begin.copy(), self._end.copy())
        return LiveCanvas(self.n_pixels, self.anchor, self.epsilon, total, weight, *ends)

    def _slices(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[slice, slice]:
        (top, left), (bottom, right) = (first - self._low).tolist(), (last - self._low).tolist()
        return slice(top, bottom), slice(left, right)


def _phase_against(there: NDArray[np.complex64], u: NDArray[np.complex64]) -> float:
    """The phase of a contribution u (n, n) relative to what is there; where that is nothing, relative to 1."""
    overlap = complex(np.vdot(there, u))
    if abs(overlap) <= FAINT * float(np.vdot(u, u).real):
        overlap = complex(u.sum(dtype=np.complex128))
    return float(np.angle(overlap)) if overlap else 0.0
