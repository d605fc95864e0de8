"""The Keras model that trains: network, physics and loss of a step, and all a `.keras` file needs to rebuild it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend.batches import count_region_patterns
from ptychopinn_reconstructor.backend.common import BETAS, EPSILON, PROBE_PULL, PROBE_RATE, SCALE_LIMIT, WEIGHT_DECAY
from ptychopinn_reconstructor.backends.tensorflow_keras import physics
from ptychopinn_reconstructor.backends.tensorflow_keras.description import DESCRIPTION
from ptychopinn_reconstructor.config import parse
from ptychopinn_reconstructor.io.sealing import write_sealed

PRECISIONS = {'32': 'float32', '16-mixed': 'mixed_float16', 'bf16-mixed': 'mixed_bfloat16'}


class Batch(NamedTuple):
    """R regions of K patterns on canvases of (height, width); labels are empty where there are none to learn from."""

    counts: tf.Tensor  # (R, K, N, N)
    root4: tf.Tensor  # (R K, N, N)
    backprojection: tf.Tensor  # (R K, 2, n, n)
    corners: tf.Tensor  # (R, K, 2), relative to the smallest of the region
    fractions: tf.Tensor  # (R, K, 2)
    scan: tf.Tensor  # (R,) which scan's probe
    dose: tf.Tensor  # (R,) photons in units of that probe's power
    beam: tf.Tensor  # (R, K) factors on the power of the beam
    background: tf.Tensor  # (R, N, N) counts
    labels: tf.Tensor  # (R K, n, n) complex, or (0, n, n)
    canvas: tf.Tensor  # (2,)


@keras.saving.register_keras_serializable(package='ptychopinn_reconstructor')
class PtychoPINN(keras.Model):
    """Network and physics; `keras.saving.load_model(path)` needs nothing but the path, safe_mode included.

    `config` is the full configuration as plain JSON; `probe_shape` = (scans, modes, N, N). Probes (sqrt(counts)) and
    good pixels are weights that are not trained, set by `set_probes` or by a file. `state` is what a training
    remembers, plain JSON too.
    """

    def __init__(
        self, config: dict[str, Any], probe_shape: list[int], state: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.settings = parse(config)
        self.probe_shape, self.state = tuple(probe_shape), state or {}
        training, precision = self.settings.training, PRECISIONS[self.settings.execution.precision]
        self.network = DESCRIPTION.builder(self.settings.model.architecture)(self.settings, precision, training.seed)
        scans, _, n_pixels, _ = probe_shape
        fixed = {'initializer': 'zeros', 'trainable': False}
        self.probe_parts = self.add_weight(shape=(*probe_shape, 2), name='probes', **fixed)
        self.good = self.add_weight(shape=(scans, n_pixels, n_pixels), name='good', **fixed)
        self.probe_change = self.log_scale = None
        if training.probe_trainable:  # in units of PROBE_RATE, which makes that its learning rate under Adam
            self.probe_change = self.add_weight(shape=(*probe_shape, 2), initializer='zeros', name='probe_change')
        if training.intensity_scale_trainable:
            self.log_scale = self.add_weight(shape=(scans,), initializer='zeros', name='log_scale')
        self.k = count_region_patterns(self.settings)
        self.mean_loss = keras.metrics.Mean(name='loss')
        self.built = True

    def set_probes(self, probes: NDArray[np.complex64], good: NDArray[np.float32]) -> None:
        """Take probes (scans, modes, N, N) and good pixels (scans, N, N)."""
        self.probe_parts.assign(np.stack([probes.real, probes.imag], axis=-1))
        self.good.assign(good)

    def current_probes(self) -> tf.Tensor:
        """Probes (scans, modes, N, N) with what has been trained of them; their power is held."""
        probes = _complex(self.probe_parts)
        if self.probe_change is not None:
            peak = tf.reduce_max(tf.abs(probes), axis=(-3, -2, -1), keepdims=True)
            changed = probes + physics.as_complex(peak * PROBE_RATE) * _complex(self.probe_change)
            before, after = (tf.reduce_sum(physics.power(p), axis=(-2, -1)) for p in (probes, changed))
            probes = changed * physics.as_complex(tf.sqrt(before / after))[:, None, None, None]
        if self.log_scale is not None:
            scale = tf.exp(SCALE_LIMIT * tf.tanh(tf.convert_to_tensor(self.log_scale)))
            probes = probes * physics.as_complex(scale)[:, None, None, None]
        return probes

    def call(self, inputs: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Amplitude and phase (b, n, n) from root4 (b, N, N) and back-projection (b, 2, n, n)."""
        amplitude, phase = self.network(inputs)
        return amplitude, phase

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean loss of an epoch."""
        return [self.mean_loss]

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One step of the optimizer, or one more batch of its accumulation."""
        with tf.GradientTape() as tape:
            loss = self.loss_of(batch)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        if self.probe_change is not None:  # so that clipping sees the gradient of the probe, not of its variable
            gradients = [
                g / PROBE_RATE if v is self.probe_change else g
                for g, v in zip(gradients, self.trainable_variables, strict=True)
            ]
        self.optimizer.apply(gradients, self.trainable_variables)
        return self._logs(loss, batch)

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The loss of one held-out batch."""
        return self._logs(self.loss_of(batch), batch)

    def _logs(self, loss: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
        self.mean_loss.update_state(loss, sample_weight=tf.cast(tf.reduce_prod(tf.shape(batch.counts)[:2]), loss.dtype))
        return {'loss': self.mean_loss.result()}

    def loss_of(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch: supervised where it has labels."""
        amplitude, phase = self.network([batch.root4, batch.backprojection])
        patches = physics.smooth_patches(physics.polar(amplitude, phase), self.settings.model.gaussian_smoothing_sigma)
        strength = physics.as_complex(tf.sqrt(batch.dose))[:, None, None, None]
        probes = tf.gather(self.current_probes(), batch.scan) * strength

        def supervised() -> tf.Tensor:
            fixed = tf.stop_gradient(probes)  # it only weighs the errors: bending it would lower them and teach nothing
            return self._supervised_loss(patches, batch, fixed) + self._roughness(patches, fixed)

        def likelihood() -> tf.Tensor:
            return self.likelihood(patches, batch, probes[:, None]) + self._roughness(patches, probes)

        if self.settings.data.source == 'mixed':
            return tf.cond(tf.size(batch.labels) > 0, supervised, likelihood)
        return supervised() if self.settings.model.model_type == 'supervised' else likelihood()

    def likelihood(self, patches: tf.Tensor, batch: Batch, probe: tf.Tensor) -> tf.Tensor:
        """Of the counts, for patches (R K, n, n) and each region's probe (R, 1, modes, N, N)."""
        shape = tf.shape(batch.counts)
        n_pixels, n = self.probe_shape[-1], self.settings.model.patch_size
        pixels, width = batch.canvas[0] * batch.canvas[1], batch.canvas[1]
        shifted = physics.shift_probe(probe, batch.fractions)
        inner = physics.window_index(batch.corners + (n_pixels - n) // 2, n, width)
        regions = tf.reshape(patches, (shape[0], self.k, n, n))  # K in numbers: a patch alone needs no eigenvector
        canvas = physics.assemble(regions, probe, shifted, batch.fractions, inner, pixels)
        windows = physics.gather(canvas, physics.window_index(batch.corners, n_pixels, width))
        diffracted = physics.measure(physics.propagate(physics.illuminate(shifted, windows)))
        intensity = physics.detect(diffracted, batch.beam, batch.background)
        good = tf.broadcast_to(tf.gather(tf.convert_to_tensor(self.good), batch.scan)[:, None], shape)
        training = self.settings.training
        loss = training.nll_weight * physics.poisson_loss(intensity, batch.counts, good)
        if training.mae_weight:
            unit = tf.maximum(tf.sqrt(tf.reduce_mean(batch.counts)), 1e-6)
            loss = loss + training.mae_weight * physics.amplitude_loss(intensity, batch.counts, good) / unit
        if self.probe_change is not None:
            loss = loss + PROBE_PULL * self._probe_change_power(tf.convert_to_tensor(self.probe_change))
        return loss

    def _probe_change_power(self, change: tf.Tensor) -> tf.Tensor:
        """Power of what was trained of the probes, relative to theirs; mean over the scans."""
        probes = _complex(self.probe_parts)
        peak = PROBE_RATE * tf.reduce_max(tf.abs(probes), axis=(-3, -2, -1))
        power = tf.reduce_sum(physics.power(probes), axis=(-2, -1))
        return tf.reduce_mean(tf.square(peak) * tf.reduce_sum(tf.square(change), axis=(-4, -3, -2, -1)) / power)

    def _supervised_loss(self, patches: tf.Tensor, batch: Batch, probe: tf.Tensor) -> tf.Tensor:
        loss = physics.exit_wave_loss(patches, batch.labels, probe)  # K is 1: a probe a pattern
        weight = self.settings.training.far_field_weight
        if weight:
            loss = loss + weight * physics.far_field_loss(patches, batch.labels, probe, batch.counts[:, 0])
        factor = self.settings.training.realspace_mae_weight
        if factor:
            lit = physics.crop_support(physics.power(probe), self.settings.model.patch_size)
            loss = loss + factor * physics.object_error(patches, batch.labels, lit)
        return loss

    def _roughness(self, patches: tf.Tensor, probes: tf.Tensor) -> tf.Tensor | float:
        """The weighted total variation of patches (R K, n, n) under each region's probe (R, modes, N, N)."""
        factor = self.settings.training.realspace_weight
        if not factor:
            return 0.0
        weight = physics.crop_support(physics.power(probes), self.settings.model.patch_size)
        weight = tf.repeat(weight, tf.shape(patches)[0] // tf.shape(probes)[0], axis=0)
        return factor * physics.total_variation(patches, weight)

    def prepare(self) -> None:
        """Compile with AdamW as the configuration asks for it; a callback sets its learning rate at every step.

        Keras adds epsilon to the root of the second moment before correcting it for its start at 0: epsilon is then
        ten times as large in the first step as PyTorch's, and equal after some hundred.
        """
        training = self.settings.training
        optimizer: Any = keras.optimizers.AdamW(
            learning_rate=training.learning_rate,
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            epsilon=EPSILON,
            weight_decay=WEIGHT_DECAY,
            global_clipnorm=training.gradient_clip_val or None,
            gradient_accumulation_steps=training.accum_steps if training.accum_steps > 1 else None,
        )
        apart = [v for v in (self.probe_change, self.log_scale) if v is not None]
        optimizer.exclude_from_weight_decay(var_list=apart)
        if self.settings.execution.precision == '16-mixed':
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        self.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Plain JSON: what the constructor takes."""
        own = {'config': self.settings.to_json(), 'probe_shape': list(self.probe_shape), 'state': dict(self.state)}
        return super().get_config() | own

    def get_compile_config(self) -> dict[str, Any]:
        """All of it follows from the configuration."""
        return {'from': 'config'}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile again, with the optimizer that the configuration describes."""
        self.prepare()

    def save(self, filepath: str | Path, **options: Any) -> None:
        """Save as a whole or not at all: under a temporary name in the same folder, sealed, and then renamed."""
        with write_sealed(filepath) as temporary:
            super().save(temporary, **options)


def _complex(parts: keras.Variable) -> tf.Tensor:
    values = tf.convert_to_tensor(parts)
    return tf.complex(values[..., 0], values[..., 1])
