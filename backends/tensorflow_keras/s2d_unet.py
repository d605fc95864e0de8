"""The network in Keras: a residual U-Net on a space-to-depth grid, from a pattern to an object patch.

Shapes: b patterns, N detector pixels, g = N/4 grid cells of r x r object pixels (r = 2, 3 or 4), n = r g object pixels,
widths (w1, w2, w3); channels last.
The layers are named as in specs/backend_contract.md, B21.
"""

from __future__ import annotations

from collections.abc import Callable
from math import e, log, pi
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ptychopinn_reconstructor.backend.common import compute_widths
from ptychopinn_reconstructor.backends.tensorflow_keras.physics import pull_back
from ptychopinn_reconstructor.config import Config

AMPLITUDES: dict[str, Callable[[tf.Tensor, float], tf.Tensor]] = {  # each is 1 at 0
    'sigmoid': lambda x, top: top * tf.sigmoid(x - log(top - 1)),
    'swish': lambda x, top: tf.nn.silu(x + 1.2784645),
    'softplus': lambda x, top: tf.math.softplus(x + log(e - 1)),
    'relu': lambda x, top: tf.nn.relu(x + 1),
}
registered = keras.saving.register_keras_serializable(package='ptychopinn_reconstructor')


@registered
class SpaceToDepth(keras.layers.Layer):
    """Patterns and back-projections rearranged to one grid, whose cells hold `block`^2 pixels of the latter."""

    def __init__(self, block: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.block = block

    def call(self, root4: tf.Tensor, backprojection: tf.Tensor) -> tf.Tensor:
        """(b, N, N) and (b, 2, n, n) to (b, g, g, 16 + 2 r^2)."""
        parts = tf.transpose(backprojection, (0, 2, 3, 1))
        return tf.concat([tf.nn.space_to_depth(root4[..., None], 4), tf.nn.space_to_depth(parts, self.block)], -1)

    def get_config(self) -> dict[str, Any]:
        """What a saved model needs to build this layer."""
        return super().get_config() | {'block': self.block}


@registered
class DepthToSpace(keras.layers.Layer):
    """Channels to blocks of 2 x 2 pixels."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(b, h, w, 4 c) to (b, 2 h, 2 w, c)."""
        return tf.nn.depth_to_space(x, 2)


@registered
class Patch(keras.layers.Layer):
    """Amplitude and phase; `amplitude_max` bounds the sigmoid amplitude, phases lie in (-pi, pi)."""

    def __init__(self, amp_activation: str, amplitude_max: float, block: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.amp_activation, self.amplitude_max, self.block = amp_activation, amplitude_max, block

    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(b, g, g, 2 r^2) to amplitude and phase (b, n, n)."""
        y = pull_back(tf.nn.depth_to_space(x, self.block))
        return AMPLITUDES[self.amp_activation](y[..., 0], self.amplitude_max), pi * tf.tanh(y[..., 1])

    def get_config(self) -> dict[str, Any]:
        """What a saved model needs to build this layer."""
        own = {'amp_activation': self.amp_activation, 'amplitude_max': self.amplitude_max, 'block': self.block}
        return super().get_config() | own


def build_network(config: Config, precision: str = 'float32', seed: int = 0) -> keras.Model:
    """The network that a configuration describes: [root4, backprojection] to (amplitude, phase), shapes as in B14.

    `precision` is the dtype policy of the convolutions. Weights are drawn as PyTorch draws them, uniformly within
    1/sqrt(fan-in), without touching any global state.
    """
    model, draw = config.model, np.random.default_rng(seed)
    w1, w2, w3 = compute_widths(model.n_filters_scale)
    single: dict[str, Any] = {'dtype': 'float32'}  # rearranging has no kernel for half precision on some devices

    def conv(x: Any, width: int, name: str, size: int = 3, stride: int = 1, gain: float = 1.0) -> Any:
        bound = (size**2 * x.shape[-1]) ** -0.5
        kernel, bias = (
            keras.initializers.RandomUniform(-limit, limit, seed=int(draw.integers(2**31)))
            for limit in (gain * bound, bound if gain == 1 else 0.0)
        )
        if stride == 2:  # where the 'same' of Keras pads the far side only
            x, padding = keras.layers.ZeroPadding2D(1, dtype=precision)(x), 'valid'
        else:
            padding = 'same'
        options = {'kernel_initializer': kernel, 'bias_initializer': bias, 'name': name, 'dtype': precision}
        return keras.layers.Conv2D(width, size, stride, padding, **options)(x)

    def act(x: Any) -> Any:
        return keras.ops.leaky_relu(x, 0.1)

    def residual(x: Any, name: str) -> Any:  # starts near the identity
        return x + conv(act(conv(act(x), x.shape[-1], f'{name}.conv1')), x.shape[-1], f'{name}.conv2')

    def up(x: Any, width: int, name: str) -> Any:
        return DepthToSpace(**single)(conv(x, 4 * width, name, size=1))

    root4, backprojection = keras.Input((None, None), name='root4'), keras.Input((2, None, None), name='backprojection')
    x = SpaceToDepth(model.block, **single)(root4, backprojection)  # (b, g, g, 16 + 2 r^2)
    x1 = residual(conv(x, w1, 'stem'), 'enc1')  # (b, g, g, w1)
    x2 = residual(conv(act(x1), w2, 'down1', stride=2), 'enc2')  # (b, g/2, g/2, w2)
    x3 = residual(conv(act(x2), w3, 'down2', stride=2), 'middle')  # (b, g/4, g/4, w3)
    x2 = residual(x2 + up(x3, w2, 'up2'), 'dec2')  # (b, g/2, g/2, w2)
    x1 = residual(x1 + up(x2, w1, 'up1'), 'dec1')  # (b, g, g, w1)
    y = conv(act(x1), 2 * model.block**2, 'head', gain=0.1)  # (b, g, g, 2 r^2); training starts near an empty object
    patch = Patch(model.amp_activation, model.amplitude_max, model.block, **single)
    return keras.Model([root4, backprojection], patch(y))
