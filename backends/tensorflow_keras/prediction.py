"""A network that predicts: arrays in, arrays out, whether it was read from a model file or is in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.smoothing import smooth_patches


class TensorFlowNetwork:
    """A network on a device; it is not copied: it predicts with the weights it has when it is asked."""

    def __init__(self, network: Any, config: Config, device: str) -> None:
        self.device = device
        self.sigma = config.model.gaussian_smoothing_sigma
        n_pixels = config.model.N
        n = n_pixels and config.model.patch_size
        signature = [tf.TensorSpec((None, n_pixels, n_pixels)), tf.TensorSpec((None, 2, n, n))]
        self.run = tf.function(lambda *inputs: network(list(inputs), training=False), input_signature=signature)

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Object patches (b, n, n) from the network's input (b, N, N) and (b, 2, n, n)."""
        with tf.device(self.device):
            amplitude, phase = (part.numpy() for part in self.run(tf.constant(root4), tf.constant(backprojection)))
        patches: NDArray[np.complex64] = amplitude * np.exp(1j * phase.astype(np.complex64))
        return smooth_patches(patches, self.sigma)
