"""The network as an ONNX graph: a residual U-Net on a space-to-depth grid, from a pattern to an object patch.

Shapes: b patterns, N detector pixels, g = N/4 grid cells of r x r object pixels (r = 2, 3 or 4), n = r g object pixels,
widths (w1, w2, w3); channels first. The layers are named as in specs/backend_contract.md, B21.
"""

from __future__ import annotations

from collections.abc import Callable
from math import e, log, pi

from ptychopinn_reconstructor.backend.common import compute_widths
from ptychopinn_reconstructor.backends.onnx_runtime.graph import Graph
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.smoothing import smoothing_matrix

ROOT4_CHANNELS = 16


def build_network(config: Config) -> Graph:
    """The network that a configuration (N is set) describes: `root4` (b, N, N) and `backprojection` (b, 2, n, n) to
    `patches` (b, 2, n, n), the latter two as real and imaginary part.
    """
    model = config.model
    w1, w2, w3 = compute_widths(model.n_filters_scale)
    r, n = model.block, model.patch_size
    graph = Graph({'root4': ('b', model.N or 0, model.N or 0), 'backprojection': ('b', 2, n, n)})
    conv = graph.convolve

    def act(x: str) -> str:
        return graph.add('LeakyRelu', x, alpha=0.1)

    def residual(x: str, name: str, width: int) -> str:
        inner = conv(act(x), f'{name}.conv1', (width, width))
        return graph.add('Add', x, conv(act(inner), f'{name}.conv2', (width, width)))

    def up(x: str, name: str, inside: int, outside: int) -> str:
        return graph.add('DepthToSpace', conv(x, name, (inside, 4 * outside), size=1), blocksize=2)

    pattern = graph.add('Unsqueeze', 'root4', graph.constant([1]))
    cells = [graph.add('SpaceToDepth', x, blocksize=size) for x, size in ((pattern, 4), ('backprojection', r))]
    x = graph.add('Concat', *cells, axis=1)  # (b, 16 + 2 r^2, g, g)
    x1 = residual(conv(x, 'stem', (ROOT4_CHANNELS + 2 * r**2, w1)), 'enc1', w1)  # (b, w1, g, g)
    x2 = residual(conv(act(x1), 'down1', (w1, w2), stride=2), 'enc2', w2)  # (b, w2, g/2, g/2)
    x3 = residual(conv(act(x2), 'down2', (w2, w3), stride=2), 'middle', w3)  # (b, w3, g/4, g/4)
    x2 = residual(graph.add('Add', x2, up(x3, 'up2', w3, w2)), 'dec2', w2)  # (b, w2, g/2, g/2)
    x1 = residual(graph.add('Add', x1, up(x2, 'up1', w2, w1)), 'dec1', w1)  # (b, w1, g, g)
    y = conv(act(x1), 'head', (w1, 2 * r**2), gain=0.1)  # (b, 2 r^2, g, g); drawn near an empty object
    y0, y1 = graph.split(graph.add('DepthToSpace', y, blocksize=r), 2)  # (b, 1, n, n)
    amplitude = AMPLITUDES[model.amp_activation](graph, y0, model.amplitude_max)
    phase = graph.add('Mul', graph.add('Tanh', y1), graph.constant(pi))
    parts = [graph.add('Mul', amplitude, graph.add(part, phase)) for part in ('Cos', 'Sin')]
    smooth = model.gaussian_smoothing_sigma
    if smooth:
        matrix = smoothing_matrix(n, smooth)
        rows, columns = graph.constant(matrix), graph.constant(matrix.T.copy())
        parts = [graph.add('MatMul', graph.add('MatMul', rows, part), columns) for part in parts]
    graph.outputs[graph.add('Concat', *parts, name='patches', axis=1)] = ('b', 2, n, n)
    return graph


def _shift(graph: Graph, x: str, by: float) -> str:
    return graph.add('Add', x, graph.constant(by))


def _apply_sigmoid(graph: Graph, x: str, top: float) -> str:
    return graph.add('Mul', graph.add('Sigmoid', _shift(graph, x, -log(top - 1))), graph.constant(top))


def _apply_swish(graph: Graph, x: str, top: float) -> str:
    shifted = _shift(graph, x, 1.2784645)
    return graph.add('Mul', shifted, graph.add('Sigmoid', shifted))


AMPLITUDES: dict[str, Callable[[Graph, str, float], str]] = {  # each is 1 at 0
    'sigmoid': _apply_sigmoid,
    'swish': _apply_swish,
    'softplus': lambda graph, x, top: graph.add('Softplus', _shift(graph, x, log(e - 1))),
    'relu': lambda graph, x, top: graph.add('Relu', _shift(graph, x, 1.0)),
}
