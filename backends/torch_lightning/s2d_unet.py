"""The network: a residual U-Net on a space-to-depth grid, from a pattern to an object patch in the probe's frame.

Shapes: b patterns, N detector pixels, g = N/4 grid cells of r x r object pixels (r = 2, 3 or 4), n = r g object pixels,
widths (w1, w2, w3).
"""

from __future__ import annotations

from collections.abc import Callable
from math import e, log, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as nnf

from ptychopinn_reconstructor.backend.common import compute_widths
from ptychopinn_reconstructor.backends.torch_lightning.physics import pull_back
from ptychopinn_reconstructor.backends.torch_lightning.weights import NeutralModule
from ptychopinn_reconstructor.config import Config

ROOT4_CHANNELS, PARTS = 16, 2  # of the stem's input; the head's outputs and the back-projection have two
SHUFFLED_OUTPUTS = ('up1', 'up2', 'head')

AMPLITUDES: dict[str, Callable[[Tensor, float], Tensor]] = {  # each is 1 at 0
    'sigmoid': lambda x, top: top * torch.sigmoid(x - log(top - 1)),
    'swish': lambda x, top: nnf.silu(x + 1.2784645),
    'softplus': lambda x, top: nnf.softplus(x + log(e - 1)),
    'relu': lambda x, top: nnf.relu(x + 1),
}


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), 3 x 3; starts near the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        change: Tensor = self.conv2(nnf.leaky_relu(self.conv1(nnf.leaky_relu(x, 0.1)), 0.1))
        return x + change


class SpaceToDepthUNet(NeutralModule):
    """Patterns and their back-projections to complex object patches.

    `amplitude_max` bounds the sigmoid amplitude; phases lie in (-pi, pi).
    """

    def __init__(self, widths: tuple[int, int, int], block: int, amp_activation: str, amplitude_max: float) -> None:
        super().__init__()
        w1, w2, w3 = widths
        self.block = block
        self.amplitude, self.amplitude_max = AMPLITUDES[amp_activation], amplitude_max
        self.stem = nn.Conv2d(16 + 2 * block**2, w1, 3, padding=1)
        self.enc1 = Residual(w1)
        self.down1 = nn.Conv2d(w1, w2, 3, stride=2, padding=1)
        self.enc2 = Residual(w2)
        self.down2 = nn.Conv2d(w2, w3, 3, stride=2, padding=1)
        self.middle = Residual(w3)
        self.up2 = nn.Conv2d(w3, 4 * w2, 1)
        self.dec2 = Residual(w2)
        self.up1 = nn.Conv2d(w2, 4 * w1, 1)
        self.dec1 = Residual(w1)
        self.head = nn.Conv2d(w1, 2 * block**2, 3, padding=1)
        with torch.no_grad():  # training starts near an empty object
            self.head.weight.mul_(0.1)
            for bias in self.head.parameters():
                bias.mul_(float(bias.ndim > 1))

    def forward(self, root4: Tensor, backprojection: Tensor) -> tuple[Tensor, Tensor]:
        """(b, N, N) and (b, 2, n, n) to amplitude and phase (b, n, n)."""
        cells = nnf.pixel_unshuffle(root4[:, None], 4), nnf.pixel_unshuffle(backprojection, self.block)
        x = torch.cat(cells, 1)  # (b, 16 + 2 r^2, g, g)
        x1 = self.enc1(self.stem(x.contiguous(memory_format=torch.channels_last)))  # (b, w1, g, g)
        x2 = self.enc2(self.down1(nnf.leaky_relu(x1, 0.1)))  # (b, w2, g/2, g/2)
        x3 = self.middle(self.down2(nnf.leaky_relu(x2, 0.1)))  # (b, w3, g/4, g/4)
        x2 = self.dec2(x2 + nnf.pixel_shuffle(self.up2(x3), 2))  # (b, w2, g/2, g/2)
        x1 = self.dec1(x1 + nnf.pixel_shuffle(self.up1(x2), 2))  # (b, w1, g, g)
        y = nnf.pixel_shuffle(self.head(nnf.leaky_relu(x1, 0.1)), self.block).float()  # (b, 2, n, n)
        y = pull_back(y)
        return self.amplitude(y[:, 0], self.amplitude_max), pi * torch.tanh(y[:, 1])

    def output_order(self, layer: str, count: int) -> NDArray[np.int64]:
        """Position in PyTorch's order of each neutral output channel: pixels are (channel, row, column) here."""
        order = np.arange(count)
        pixels = count // PARTS if layer == 'head' else 4
        return order.reshape(-1, pixels).T.ravel() if layer in SHUFFLED_OUTPUTS else order

    def input_order(self, layer: str, count: int) -> NDArray[np.int64]:
        """Position in PyTorch's order of each neutral input channel; only the stem sees rearranged pixels."""
        order = np.arange(count)
        if layer == 'stem':
            order[ROOT4_CHANNELS:] = order[ROOT4_CHANNELS:].reshape(PARTS, -1).T.ravel()
        return order


def build_network(config: Config) -> SpaceToDepthUNet:
    """The network that a configuration describes, weights as PyTorch draws them."""
    model = config.model
    network = SpaceToDepthUNet(
        compute_widths(model.n_filters_scale), model.block, model.amp_activation, model.amplitude_max
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
