"""Between a Keras network and the neutral layout (specs/backend_contract.md, B18 to B21).

The neutral layout is that of Keras: kernels (height, width, in, out), rearranged pixels ordered (row, column, channel).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend.common import check_weights


def _variables(network: keras.Model) -> dict[str, Any]:
    """The network's variables by their neutral names."""
    return {f'{layer.name}.{weight.name}': weight for layer in network.layers for weight in layer.weights}


def to_neutral(network: keras.Model) -> dict[str, NDArray[np.float32]]:
    """The weights of a network in the neutral layout."""
    return {name: np.array(variable.value.numpy(), dtype=np.float32) for name, variable in _variables(network).items()}


def load_neutral(network: keras.Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Fill a network with neutral weights; ModelFileError names what is missing, superfluous or of another shape."""
    variables = _variables(network)
    check_weights(weights, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        variable.assign(np.asarray(weights[name], dtype=np.float32))
