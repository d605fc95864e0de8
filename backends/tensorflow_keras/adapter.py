"""TensorFlowBackend: the Backend interface on TensorFlow and Keras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainingJob, Weights
from ptychopinn_reconstructor.backend.base import Training, TrainingBackend
from ptychopinn_reconstructor.backends.tensorflow_keras.description import DESCRIPTION
from ptychopinn_reconstructor.backends.tensorflow_keras.framework import tf, uses_one_dnn
from ptychopinn_reconstructor.backends.tensorflow_keras.prediction import TensorFlowNetwork
from ptychopinn_reconstructor.config import Config


class TensorFlowBackend(TrainingBackend):
    """TensorFlow with Keras."""

    description = DESCRIPTION
    gpu = 'gpu'

    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' first."""
        return ['cpu', *(f'gpu:{i}' for i in range(len(tf.config.list_physical_devices('GPU'))))]

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages."""
        return {'tensorflow': str(tf.__version__), 'keras': version('keras')}

    def draw_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Freshly drawn weights; no global random state is touched."""
        from ptychopinn_reconstructor.backends.tensorflow_keras.weights import to_neutral

        with self.runtime(config, 'cpu'):
            return to_neutral(DESCRIPTION.builder(config.model.architecture)(config, seed=seed))

    def network(self, config: Config, weights: Weights, device: str) -> TensorFlowNetwork:
        """A network with these weights on `device`."""
        from ptychopinn_reconstructor.backends.tensorflow_keras.model import PRECISIONS
        from ptychopinn_reconstructor.backends.tensorflow_keras.weights import load_neutral

        where = self.resolve_device(device)
        claim_runtime(where, 1, config.execution.threads or 1)
        with tf.device(where):
            network = DESCRIPTION.builder(config.model.architecture)(config, PRECISIONS[config.execution.precision])
            load_neutral(network, weights)
        return TensorFlowNetwork(network, config, where)

    @contextmanager
    def runtime(self, config: Config, device: str) -> Iterator[None]:
        """TensorFlow set up as the configuration asks for it, and what runs inside on `device`."""
        claim_runtime(device, config.execution.threads or 1, 1)
        with tf.device(device):
            yield

    def training(self, job: TrainingJob, device: str) -> Training[Any]:
        """A training with Keras' fit."""
        from ptychopinn_reconstructor.backends.tensorflow_keras.training import KerasTraining

        return KerasTraining(job, device)


def claim_runtime(device: str, threads: int, calls: int) -> None:
    """Threads of an operation, calls at a time, memory growth, determinism and graph optimization of this process.

    TensorFlow takes the number of threads and the way to use a GPU's memory once, before its first tensor; in a process
    that has used it already they stay as they are. Determinism, which a CPU has anyway, stays on once it is.

    With oneDNN the pass that fuses convolutions with what follows them fails on our network: the graph stays as it was,
    and an error is written to stderr every time. Leaving it out costs nothing there (inference 1.52 ms a pattern of
    N = 128 without, 1.56 with); where there is no oneDNN it works, and gains a tenth.
    """
    if uses_one_dnn():
        tf.config.optimizer.set_experimental_options({'remapping': False})
    if device != 'cpu':
        tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(calls)
        for gpu in tf.config.list_physical_devices('GPU'):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return
