"""The network of the learned step in PyTorch; `physics/learned/network.py` applies the same with numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 9
WIDTHS = 48, 64, 80
BLOCKS = 1, 2, 2  # of residual blocks, down and up again


class Block(nn.Module):
    """x + conv(relu(conv(relu x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.b.weight, 0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, H, W) to the same."""
        out: Tensor = x + self.b(functional.relu(self.a(functional.relu(x))))
        return out


class Network(nn.Module):
    """(b, 9, H, W), H and W multiples of 8, to (b, 2, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three = WIDTHS
        self.head = nn.Conv2d(4 * CHANNELS, one, 3, padding=1)
        self.before1, self.before2, self.before3 = (
            nn.Sequential(*[Block(width) for _ in range(count)]) for width, count in zip(WIDTHS, BLOCKS, strict=True)
        )
        self.after1, self.after2 = (
            nn.Sequential(*[Block(width) for _ in range(count)])
            for width, count in zip(WIDTHS[:2], BLOCKS[:2], strict=True)
        )
        self.down2, self.down3 = nn.Conv2d(4 * one, two, 1), nn.Conv2d(4 * two, three, 1)
        self.up1, self.up2 = nn.Conv2d(two, 4 * one, 1), nn.Conv2d(three, 4 * two, 1)
        self.tail = nn.Conv2d(one, 8, 3, padding=1)
        nn.init.normal_(self.tail.weight, 0, 0.005)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """The correction in units of counting noise."""
        fold, unfold = functional.pixel_unshuffle, functional.pixel_shuffle
        one = self.before1(self.head(fold(x, 2)))  # (b, 48, H/2, W/2)
        two = self.before2(self.down2(fold(one, 2)))  # (b, 64, H/4, W/4)
        three = self.before3(self.down3(fold(two, 2)))  # (b, 80, H/8, W/8)
        two = self.after2(two + unfold(self.up2(three), 2))
        one = self.after1(one + unfold(self.up1(two), 2))
        return unfold(self.tail(one), 2)


def to_numpy(state: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Weights under the names and in the shapes of `physics/learned/network.py`."""
    return {
        name: np.ascontiguousarray(
            values.numpy().reshape(values.shape[:2]) if name.startswith(('up', 'down')) and values.ndim == 4 else values
        )
        for name, values in state.items()
    }
