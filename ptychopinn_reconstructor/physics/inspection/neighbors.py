"""The neighbors of each pixel of an image, without copies of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSETS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column)


def second_largest_neighbor(images: NDArray[Any]) -> NDArray[Any]:
    """The second largest of the eight neighbors of each pixel of (..., N, N); those beyond the border are zero.

    One neighbor may itself be wrong, and a streak one pixel wide has two bright ones.
    """
    padded = _padded(images)
    largest = np.zeros_like(images)
    second = np.zeros_like(images)
    for neighbor in _shifted(padded, images.shape):
        np.maximum(second, np.minimum(largest, neighbor), out=second)
        np.maximum(largest, neighbor, out=largest)
    return second


def neighbors_of(
    images: NDArray[Any], frames: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[Any]:
    """The eight neighbors (k, 8) of single pixels of (b, N, N); those beyond the border are the nearest within."""
    side = images.shape[-1]
    where = [(np.clip(rows + dr, 0, side - 1), np.clip(columns + dc, 0, side - 1)) for dr, dc in OFFSETS]
    return np.stack([images[frames, row, column] for row, column in where], axis=1)


def _padded(images: NDArray[Any]) -> NDArray[Any]:
    padded = np.zeros((*images.shape[:-2], images.shape[-2] + 2, images.shape[-1] + 2), images.dtype)
    padded[..., 1:-1, 1:-1] = images
    return padded


def _shifted(padded: NDArray[Any], shape: tuple[int, ...]) -> Any:
    height, width = shape[-2:]
    return (padded[..., 1 + dr : 1 + dr + height, 1 + dc : 1 + dc + width] for dr, dc in OFFSETS)
