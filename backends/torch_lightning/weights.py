"""Between PyTorch's state dict and the neutral layout (specs/checkpoint_format.md).

Neutral: `layer.kernel` (height, width, in, out) and `layer.bias` (out,), float32; channels that come from, or go to, a
rearrangement of r x r pixels are ordered (row, column, channel). PyTorch orders them (channel, row, column) and stores
kernels (out, in, height, width).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ptychopinn_reconstructor.backend.common import check_weights


class NeutralModule(nn.Module):
    """Base of the networks: says where their channels stand in the neutral layout, unless in the same place."""

    def output_order(self, layer: str, count: int) -> NDArray[np.int64]:
        """Position in PyTorch's order of each of a layer's neutral output channels."""
        return np.arange(count)

    def input_order(self, layer: str, count: int) -> NDArray[np.int64]:
        """Position in PyTorch's order of each of a layer's neutral input channels."""
        return np.arange(count)


def to_neutral(network: NeutralModule) -> dict[str, NDArray[np.float32]]:
    """The weights of a network in the neutral layout."""
    neutral: dict[str, NDArray[np.float32]] = {}
    for name, tensor in network.state_dict().items():
        layer, kind = name.rsplit('.', 1)
        values = tensor.detach().cpu().numpy().astype(np.float32)
        values = values[network.output_order(layer, len(values))]
        if kind == 'weight':
            values = values[:, network.input_order(layer, values.shape[1])].transpose(2, 3, 1, 0)
        neutral[f'{layer}.{"kernel" if kind == "weight" else kind}'] = np.ascontiguousarray(values)
    return neutral


def load_neutral(network: NeutralModule, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Fill a network with neutral weights; ModelFileError names what is missing, superfluous or of another shape."""
    expected = {name: values.shape for name, values in to_neutral(network).items()}
    check_weights(weights, expected)
    state = {}
    for name in expected:
        layer, kind = name.rsplit('.', 1)
        values = np.asarray(weights[name], dtype=np.float32)
        if kind == 'kernel':
            values = values.transpose(3, 2, 0, 1)
            values = values[:, np.argsort(network.input_order(layer, values.shape[1]))]
        values = values[np.argsort(network.output_order(layer, len(values)))]
        state[f'{layer}.{"weight" if kind == "kernel" else kind}'] = torch.from_numpy(np.ascontiguousarray(values))
    network.load_state_dict(state, strict=True)
