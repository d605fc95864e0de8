"""The network of the learned step, applied with numpy: a U-Net of residual blocks on pixels folded two by two.

| symbol  | meaning                                                        |
|---------|----------------------------------------------------------------|
| x       | channels of the canvas, (C, H, W), H and W multiples of `STRIDE` |
| fold    | blocks of 2 x 2 pixels become channels: (C, H, W) to (4 C, H/2, W/2) |
| block   | x + conv(relu(conv(relu x))), 3 x 3, the image continued by zeros |
| level l | fold (level 1) or a 2 x 2 convolution of stride 2, blocks, the level below, unfolded and added, blocks |

A network is the same for canvases of every size: it has no mean over the image and no position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
LEVELS = 3
STRIDE = 2**LEVELS  # pixels
REACH = 96  # pixels beyond which nothing of an answer depends, a multiple of `STRIDE`: 92 with two blocks a level


@dataclass(frozen=True, eq=False)
class Network:
    """Weights by name: `head`, `tail`, `down2`, `up1`, ... and `before1.0.a` for the blocks of each level."""

    weights: Mapping[str, Image]

    def __call__(self, channels: Image) -> Image:
        """The correction, (2, H, W), from channels (C, H, W)."""
        return unfold(self._convolve(self._level(1, self._convolve(fold(channels), 'head')), 'tail'))

    def _level(self, level: int, x: Image) -> Image:
        x = self._blocks(f'before{level}', x)
        if level == LEVELS:
            return x
        below = self._level(level + 1, self._mix(fold(x), f'down{level + 1}'))
        return self._blocks(f'after{level}', x + unfold(self._mix(below, f'up{level}')))

    def _blocks(self, name: str, x: Image) -> Image:
        number = 0
        while f'{name}.{number}.a.weight' in self.weights:
            inner = self._convolve(np.maximum(x, 0), f'{name}.{number}.a')
            x = x + self._convolve(np.maximum(inner, 0), f'{name}.{number}.b')
            number += 1
        return x

    def _convolve(self, x: Image, name: str) -> Image:
        return convolve(x, self.weights[f'{name}.weight'], self.weights[f'{name}.bias'])

    def _mix(self, x: Image, name: str) -> Image:
        """Each pixel's channels multiplied by a matrix."""
        matrix = self.weights[f'{name}.weight']
        mixed = matrix @ x.reshape(len(x), -1) + self.weights[f'{name}.bias'][:, None]
        return mixed.reshape(len(matrix), *x.shape[1:])


def convolve(x: Image, kernel: Image, bias: Image) -> Image:
    """The correlation of x (C, H, W), continued by zeros, with a kernel (D, C, 3, 3), plus bias (D,): (D, H, W)."""
    count, height, width = x.shape
    padded = np.zeros((count, height + 3, width + 2), dtype=np.float32)
    padded[:, 1 : height + 1, 1 : width + 1] = x
    # In rows laid end to end a shifted image is a slice: nothing is copied, and two columns are spoiled and dropped.
    line, stride, length = padded.reshape(count, -1), width + 2, height * (width + 2)
    out = np.zeros((len(kernel), length), dtype=np.float32)
    for row in range(3):
        for col in range(3):
            start = row * stride + col
            out += np.ascontiguousarray(kernel[:, :, row, col]) @ line[:, start : start + length]
    return np.asarray(out.reshape(-1, height, stride)[:, :, :width] + bias[:, None, None])


def fold(x: Image) -> Image:
    """(C, H, W) to (4 C, H/2, W/2): channel 4 c + 2 row + col."""
    count, height, width = x.shape
    parts = x.reshape(count, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 1, 3)
    return parts.reshape(4 * count, height // 2, width // 2)


def unfold(x: Image) -> Image:
    """(4 C, H, W) to (C, 2 H, 2 W): undoes `fold`."""
    count, height, width = x.shape
    parts = x.reshape(count // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return parts.reshape(count // 4, 2 * height, 2 * width)
