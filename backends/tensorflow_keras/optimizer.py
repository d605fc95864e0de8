"""AdamW, equal to PyTorch's in every digit that counts, on TensorFlow's fused kernel."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package='ptychopinn_reconstructor')
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW with epsilon beside the corrected second moment, as in its paper: Keras puts it beside the raw one.

    In the first steps that makes Keras' epsilon ten times larger. One kernel a variable instead of a dozen.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable in place."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        power1, power2 = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=power1,
            beta2_power=power2,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon * tf.sqrt(1 - power2),
            grad=gradient,
        )
