"""Steps as a tf.data pipeline: regions are drawn, read and scaled batch by batch, nothing is held."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend.batches import Step, Steps
from ptychopinn_reconstructor.backends.tensorflow_keras.model import Batch
from ptychopinn_reconstructor.physics.prepare import PreparedScan


@dataclass(eq=False)
class Source:
    """Makes pipelines of batches, and keeps what goes wrong in them: TensorFlow would wrap it in its own words."""

    steps: Steps
    error: Exception | None = field(default=None, init=False)
    _pipelines: list[Callable[[int], Step]] = field(default_factory=list, init=False)

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """All epochs from `first_epoch` on, one after the other."""
        steps = self.steps
        draw_epoch = lru_cache(maxsize=2)(steps.draw_epoch)

        def step(number: int) -> Step:
            epoch, place = divmod(number, len(steps))
            return draw_epoch(epoch)[place]

        return self._dataset(range(first_epoch * len(steps), self.steps.config.training.nepochs * len(steps)), step)

    def validation(self, steps: list[Step]) -> tf.data.Dataset:
        """The steps of a validation, once."""
        return self._dataset(range(len(steps)), steps.__getitem__)

    def _dataset(self, numbers: range, step: Callable[[int], Step]) -> tf.data.Dataset:
        shapes, types = zip(*_fields(self.steps.scans[0]), strict=True)
        self._pipelines.append(step)
        # TensorFlow keeps every Python function it has ever been given: this one must not keep the scans.
        source, pipeline = weakref.ref(self), len(self._pipelines) - 1

        def arrays(number: NDArray[np.int64]) -> list[NDArray[Any]]:
            alive = source()
            return [] if alive is None else alive._arrays(pipeline, int(number))

        def batch(number: tf.Tensor) -> Batch:
            tensors = tf.numpy_function(arrays, [number], types, stateful=False)
            for tensor, shape in zip(tensors, shapes, strict=True):
                tensor.set_shape(shape)
            return Batch(*tensors)

        workers = self.steps.config.execution.num_workers
        parallel = {'num_parallel_calls': workers, 'deterministic': True} if workers else {}
        return tf.data.Dataset.range(numbers.start, numbers.stop).map(batch, **parallel).prefetch(1 + workers)

    def _arrays(self, pipeline: int, number: int) -> list[NDArray[Any]]:
        try:
            batch = self.steps.batch(self._pipelines[pipeline](number))
        except Exception as error:
            self.error = self.error or error
            raise
        n = batch.backprojection.shape[-1]
        none = np.empty((0, n, n), dtype=np.complex64)
        labels = none if batch.labels is None else batch.labels
        return [*batch[:-2], labels, np.array(batch.canvas, dtype=np.int64)]


def _fields(scan: PreparedScan) -> list[tuple[tuple[int | None, ...], tf.DType]]:
    """Shape and type of each field of a Batch."""
    n_pixels, n = scan.n_pixels, scan.patch_size
    return [
        ((None, None, n_pixels, n_pixels), tf.float32),
        ((None, n_pixels, n_pixels), tf.float32),
        ((None, 2, n, n), tf.float32),
        ((None, None, 2), tf.int64),
        ((None, None, 2), tf.float32),
        ((None,), tf.int64),
        ((None,), tf.float32),
        ((None, None), tf.float32),
        ((None, n_pixels, n_pixels), tf.float32),
        ((None, n, n), tf.complex64),
        ((2,), tf.int64),
    ]
