"""OnnxRuntimeBackend: the Backend interface on ONNX Runtime, which predicts and does not train."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import Weights, check_requests
from ptychopinn_reconstructor.backend.base import BackendBase
from ptychopinn_reconstructor.backends.onnx_runtime.description import DESCRIPTION
from ptychopinn_reconstructor.backends.onnx_runtime.graph import Graph
from ptychopinn_reconstructor.backends.onnx_runtime.prediction import OnnxNetwork, list_devices
from ptychopinn_reconstructor.backends.onnx_runtime.runtime import load_runtime
from ptychopinn_reconstructor.config import Config


class OnnxRuntimeBackend(BackendBase):
    """ONNX Runtime on graphs that are built here from a model's configuration and weights."""

    description = DESCRIPTION

    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' first."""
        return list_devices()

    def versions(self) -> dict[str, str]:
        """Version of the runtime; for GPUs it is installed under another name."""
        return {'onnxruntime': str(load_runtime().__version__)}

    def draw_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Freshly drawn weights; no global random state is touched."""
        return self._build(config).draw_weights(seed)

    def network(self, config: Config, weights: Weights, device: str) -> OnnxNetwork:
        """A network with these weights on `device`."""
        check_requests(DESCRIPTION, config, training=False)
        where = self.resolve_device(device)
        return OnnxNetwork(self.encode_network(config, weights), where)

    def encode_network(self, config: Config, weights: Weights) -> bytes:
        """An ONNX file of the network, to be run elsewhere; ModelFileError if the weights do not fit."""
        return self._build(config).encode(weights)

    def run_network(self, file: bytes) -> OnnxNetwork:
        """The network of such a file, as it stands, on the CPU."""
        return OnnxNetwork(file, 'cpu')

    def _build(self, config: Config) -> Graph:
        graph: Graph = DESCRIPTION.builder(config.model.architecture)(config)
        return graph
