"""The eight ways in which a detector, or the two axes of a stage, can be turned, and patterns read so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..physics.forward import measure, propagate
from ..scan import Scan

SYMMETRIC = 0.98  # correlation of a probe with itself turned, from which the two are one


@dataclass(frozen=True)
class Turn:
    """Rows and columns exchanged first, then rows, then columns reversed."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @property
    def name(self) -> str:
        """In words, after 'the patterns are'."""
        both = self.rows_reversed and self.columns_reversed
        reversed_axes = 'rows' if self.rows_reversed else 'columns'
        parts = ['transposed'] if self.transposed else []
        if self.rows_reversed or self.columns_reversed:
            parts.append('rotated by 180 degrees' if both else f'reversed along their {reversed_axes}')
        return ' and '.join(parts) or 'as they are'

    def images(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images (..., N, N) turned, as views."""
        turned = np.swapaxes(images, -1, -2) if self.transposed else images
        steps = (-1 if self.rows_reversed else 1, -1 if self.columns_reversed else 1)
        return turned[..., :: steps[0], :: steps[1]]

    def places(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (n, 2) turned about the origin."""
        turned = positions[:, ::-1] if self.transposed else positions
        return np.asarray(turned * np.where([self.rows_reversed, self.columns_reversed], -1.0, 1.0))


SAME = Turn()
TURNS = tuple(turn for turn in (Turn(*flags) for flags in product((False, True), repeat=3)) if turn != SAME)


class TurnedPatterns:
    """(n, N, N) patterns turned and then rolled by `shift` when they are read, so that none are copied before."""

    def __init__(self, patterns: Any, turn: Turn, shift: tuple[int, int]) -> None:
        self._patterns, self._turn, self._shift = patterns, turn, shift
        self.dtype: np.dtype[Any] = np.dtype(patterns.dtype)
        self.shape: tuple[int, ...] = tuple(patterns.shape)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.roll(self._turn.images(np.asarray(self._patterns[index])), self._shift, axis=(-2, -1))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def turn_detector(scan: Scan, turn: Turn, mean_pattern: NDArray[np.float64] | None = None) -> Scan:
    """The scan with its patterns and bad pixels turned, the zero frequency kept at [N//2, N//2].

    Reversed indices carry it to N//2 - 1; where the patterns were reversed when they were written, reversing them again
    brings it back. The `mean_pattern` (N, N) of the scan beside the probe's far field decides between the two.
    """
    shift = _choose_shift(scan, turn, mean_pattern)
    bad = scan.bad_pixels
    return replace(
        scan,
        diffraction=TurnedPatterns(scan.diffraction, turn, shift),  # type: ignore[arg-type]  # read like one
        bad_pixels=None if bad is None else np.roll(turn.images(bad), shift, axis=(0, 1)),
    )


def turn_positions(scan: Scan, turn: Turn) -> Scan:
    """The scan with its positions turned; an object that it holds no longer fits and is left out."""
    return replace(
        scan, positions=turn.places(scan.positions), object=None, object_origin=(0.0, 0.0), on_object_grid=False
    )


def conjugate_probe(scan: Scan) -> Scan:
    """The scan with the complex conjugate of its probe."""
    assert scan.probe is not None
    return replace(scan, probe=scan.probe.conj())


def is_symmetric(probe: NDArray[np.complex64], turn: Turn) -> bool:
    """Whether the strongest mode of a probe (modes, N, N) is the same turned, wherever it lies in its window."""
    mode = probe[np.argmax((np.abs(probe) ** 2).sum(axis=(1, 2)))].astype(np.complex128)
    turned = np.fft.fft2(turn.images(mode))
    return bool(np.abs(np.fft.ifft2(np.fft.fft2(mode) * turned.conj())).max() > SYMMETRIC * (np.abs(mode) ** 2).sum())


def _choose_shift(scan: Scan, turn: Turn, mean_pattern: NDArray[np.float64] | None) -> tuple[int, int]:
    kept = (int(turn.rows_reversed), int(turn.columns_reversed))
    if mean_pattern is None or scan.probe is None:
        return kept
    own = np.sqrt(measure(propagate(scan.probe)[None])[0])
    amplitude = turn.images(np.sqrt(mean_pattern))
    choices = {(0, 0), kept, (kept[0], 0), (0, kept[1])}
    return max(sorted(choices), key=lambda by: float((np.roll(amplitude, by, axis=(0, 1)) * own).sum()))
