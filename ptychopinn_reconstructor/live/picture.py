"""Pictures of an object as PNG, within milliseconds and without a plotting library."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ..io.drawing import compute_limits

UNKNOWN = 255  # the last color: nothing is known
GRAY = np.repeat(np.linspace(0, 255, UNKNOWN)[:, None], 3, axis=1)
# Blue by green to yellow, of even lightness: seven colors that the others lie between.
PHASE_COLORS = np.array(
    [[68, 1, 84], [68, 57, 131], [49, 104, 142], [33, 145, 140], [53, 183, 121], [144, 215, 67], [253, 231, 37]]
)
BEYOND = (24, 26, 32)


def draw_amplitude_phase(object: NDArray[np.complex64], known: NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """PNG of the amplitude and of the phase about its mean of an object (H, W), dark where nothing is `known`."""
    seen = known if known.any() else np.ones_like(known)
    mean = complex(object[seen].sum(dtype=np.complex128)) or 1.0
    phase = np.angle(object * np.complex64(np.conj(mean) / abs(mean)))
    steps = np.linspace(0, 1, UNKNOWN)
    at = np.linspace(0, 1, len(PHASE_COLORS))
    colors = np.stack([np.interp(steps, at, PHASE_COLORS[:, channel]) for channel in range(3)], axis=1)
    return _draw(np.abs(object), seen, GRAY), _draw(phase, seen, colors)


def _draw(values: NDArray[np.float32], known: NDArray[np.bool_], colors: NDArray[np.float64]) -> bytes:
    low, high = compute_limits(values[known])
    level = np.clip((values - low) / (high - low), 0, 1) * (UNKNOWN - 1)
    return encode_png(np.where(known, level, UNKNOWN).astype(np.uint8), np.vstack([colors, BEYOND]).astype(np.uint8))


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
