"""A network as a graph of ONNX operators, built node by node; its weights are put in when it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import Weights
from ptychopinn_reconstructor.backend.common import check_weights
from ptychopinn_reconstructor.io.onnx import Attribute, Shape, encode_graph, encode_model, encode_node, to_onnx


class WeightInfo(NamedTuple):
    """Shape of a weight in the neutral layout, and the largest value that it is drawn with."""

    shape: tuple[int, ...]
    bound: float


class Graph:
    """Nodes in the order in which they run; every method adds one and returns the name of what it gives.

    Arrays are (b, channels, height, width). Rearranged pixels are ordered (row, column, channel), as in the neutral
    layout, so that only the axes of kernels differ from it.
    """

    def __init__(self, inputs: Mapping[str, Shape]) -> None:
        self.inputs, self.outputs = dict(inputs), dict[str, Shape]()
        self.nodes: list[bytes] = []
        self.weights: dict[str, WeightInfo] = {}

    def add(self, kind: str, *inputs: str, name: str = '', **attributes: Attribute) -> str:
        """Apply an operator; what it gives is called `name`, or by its number."""
        name = name or f'{kind.lower()}_{len(self.nodes)}'
        self.nodes.append(encode_node(kind, inputs, [name], attributes))
        return name

    def constant(self, values: float | list[int] | NDArray[np.float32]) -> str:
        """A number, a list of whole numbers, or an array."""
        kind = '<i8' if isinstance(values, list) else '<f4'
        return self.add('Constant', value=np.asarray(values, dtype=kind))

    def convolve(
        self, x: str, layer: str, channels: tuple[int, int], size: int = 3, stride: int = 1, gain: float = 1.0
    ) -> str:
        """Cross-correlate with the kernel of a layer, padded by zeros on all sides, and add its bias."""
        inside, outside = channels
        bound = (size**2 * inside) ** -0.5
        self.weights[f'{layer}.kernel'] = WeightInfo((size, size, inside, outside), gain * bound)
        self.weights[f'{layer}.bias'] = WeightInfo((outside,), bound if gain == 1 else 0.0)
        attributes = {'kernel_shape': [size] * 2, 'strides': [stride] * 2, 'pads': [size // 2] * 4}
        return self.add('Conv', x, f'{layer}.kernel', f'{layer}.bias', name=layer, **attributes)

    def split(self, x: str, count: int) -> list[str]:
        """Equal parts of the channels."""
        names = [f'split_{len(self.nodes)}_{number}' for number in range(count)]
        self.nodes.append(encode_node('Split', [x], names, {'axis': 1}))
        return names

    def draw_weights(self, seed: int) -> dict[str, NDArray[np.float32]]:
        """Weights in the neutral layout, drawn as a training draws them."""
        draw = np.random.default_rng(seed).uniform
        return {name: draw(-bound, bound, shape).astype(np.float32) for name, (shape, bound) in self.weights.items()}

    def encode(self, weights: Weights) -> bytes:
        """An ONNX file with weights in the neutral layout; ModelFileError if any does not fit."""
        check_weights(weights, {name: shape for name, (shape, _) in self.weights.items()})
        arrays = {name: to_onnx(np.asarray(weights[name], dtype='<f4')) for name in self.weights}
        return encode_model(encode_graph(self.nodes, arrays, self.inputs, self.outputs))
