"""What a source of patterns and positions is, and what all have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, ScanError, quote
from ...events import LOGGER

UNITS = {'m': 1.0, 'mm': 1e-3, 'um': 1e-6, 'µm': 1e-6, 'nm': 1e-9}
PIXELS = ('pixel', 'pixels', 'px', '')
MOST = 64  # patterns handed over at a time, so that few are in memory


@dataclass(frozen=True, eq=False)
class Arrival:
    """Patterns (k, H, W) or positions (k, 2) [row, column] in object pixels, or both, with their indexes (k,).

    `sent`: when, in seconds since 1970; None: not known.
    """

    index: NDArray[np.int64]
    patterns: NDArray[Any] | None = None
    positions: NDArray[np.float64] | None = None
    sent: float | None = None


class Source(ABC):
    """Hands over what has come. `over`: whoever sends has said that no more comes."""

    over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def poll(self, seconds: float) -> list[Arrival]:
        """What has come, at most 64 patterns; waits for it for so many seconds at most."""

    @abstractmethod
    def close(self) -> None:
        """Give back what was opened."""


def to_pixels(values: NDArray[Any], unit: str, pixel_size: float | None) -> NDArray[np.float64]:
    """Positions (k, 2) in object pixels; raises ScanError on a unit that is none, ConfigError without a pixel size."""
    positions = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    if unit.lower() in PIXELS:
        return positions
    if unit.lower() not in UNITS:
        raise ScanError(f'The unit of the positions is {quote(unit)}; use pixel, {", ".join(UNITS)}.')
    if pixel_size is None:
        raise ConfigError(f'The positions are in {unit}, so the size of an object pixel is needed; pass pixel_size=.')
    return positions * (UNITS[unit.lower()] / pixel_size)


def warn(text: str) -> None:
    """Tell the user, without ending what goes on."""
    logging.getLogger(LOGGER).warning('%s', text)
