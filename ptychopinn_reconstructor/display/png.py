"""Pictures as PNG, within milliseconds and without a plotting library."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Limits = tuple[float, float]

PERCENTILES = (0.5, 99.5)
UNKNOWN = 255  # the last color: nothing is known
# Blue by green to yellow, of even lightness: seven colors that the others lie between.
VIRIDIS = np.array(
    [[68, 1, 84], [68, 57, 131], [49, 104, 142], [33, 145, 140], [53, 183, 121], [144, 215, 67], [253, 231, 37]]
)
GRAYS = np.array([[0, 0, 0], [255, 255, 255]])
BEYOND = (24, 26, 32)


def compute_limits(values: NDArray[Any]) -> Limits:
    """Limits (low, high) of a color scale: the percentiles 0.5 and 99.5 of finite values, widened for a flat image."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 1.0)
    if high - low < 1e-3 * max(1.0, abs(high)):  # a flat object: rounding errors must not fill the color scale
        low, high = low - 0.05, high + 0.05
    return float(low), float(high)


def draw_amplitude_phase(object: NDArray[np.complex64], known: NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """PNG of the amplitude and of the phase about its mean of an object (H, W), dark where nothing is `known`."""
    seen = known if known.any() else np.ones_like(known)
    return draw_values(np.abs(object), GRAYS, seen), draw_values(phase_about_mean(object, seen), VIRIDIS, seen)


def phase_about_mean(object: NDArray[np.complex64], known: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Phase of an object (H, W) in radians, about the mean of what is `known`: no pattern tells a constant."""
    mean = complex(object[... if known is None else known].sum(dtype=np.complex128)) or 1.0
    return np.asarray(np.angle(object * np.complex64(np.conj(mean) / abs(mean))))


def draw_values(values: NDArray[Any], colors: NDArray[Any], known: NDArray[np.bool_] | None = None) -> bytes:
    """PNG of values (H, W) in colors between those of a table (k, 3); dark where not finite, or nothing is `known`."""
    seen = np.isfinite(values) if known is None else known & np.isfinite(values)
    low, high = compute_limits(values[seen])
    level = np.clip((np.where(seen, values, low) - low) / (high - low), 0, 1) * (UNKNOWN - 1)
    steps, at = np.linspace(0, 1, UNKNOWN), np.linspace(0, 1, len(colors))
    table = np.stack([np.interp(steps, at, colors[:, channel]) for channel in range(3)], axis=1)
    return encode_png(np.where(seen, level, UNKNOWN).astype(np.uint8), np.vstack([table, BEYOND]).astype(np.uint8))


def shrink(values: NDArray[Any], side: int) -> NDArray[Any]:
    """Values (H, W) averaged over squares such that no side is longer than `side`."""
    step = -(-max(values.shape) // side)
    if step == 1:
        return values
    height, width = (size // step * step or size for size in values.shape)
    rows, columns = (np.arange(0, size, step) for size in (height, width))
    total = np.add.reduceat(np.add.reduceat(values[:height, :width], rows, axis=0), columns, axis=1)
    return np.asarray(total / (min(step, height) * min(step, width)))


def encode_png(pixels: NDArray[np.uint8], colors: NDArray[np.uint8]) -> bytes:
    """A PNG of pixels (H, W), each the number of one of 256 colors (256, 3)."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with the number of its filter: none
    rows[:, 1:] = pixels
    parts = (
        (b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 3, 0, 0, 0)),
        (b'PLTE', colors.tobytes()),
        (b'IDAT', zlib.compress(rows.tobytes(), 1)),
        (b'IEND', b''),
    )
    chunks = (
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in parts
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)
