"""A training with Keras: model, pipeline, callbacks, and what is returned of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainingJob, Weights
from ptychopinn_reconstructor.backend.base import Training
from ptychopinn_reconstructor.backend.batches import stack_good_pixels, stack_probes
from ptychopinn_reconstructor.backends.tensorflow_keras.callbacks import (
    EarlyStopping,
    Watch,
    make_checkpoint_callbacks,
    make_loggers,
)
from ptychopinn_reconstructor.backends.tensorflow_keras.data import Source
from ptychopinn_reconstructor.backends.tensorflow_keras.model import PtychoPINN
from ptychopinn_reconstructor.backends.tensorflow_keras.weights import load_neutral, to_neutral
from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.io.sealing import open_sealed


class KerasTraining(Training[PtychoPINN]):
    """Keras' fit over a Keras model."""

    suffix = '.keras'

    def build_module(self) -> PtychoPINN:
        """The model of the job, compiled."""
        return build_model(self.job)

    def fit(self, module: PtychoPINN) -> None:
        """Run Keras' fit to its end."""
        watch = Watch(self.journal, self.device, len(self.steps), self.steps.r * self.steps.k)
        if self.job.resume:
            state = restore_checkpoint(module, self.last)
            with open_sealed(self.last):
                watch.restore(state)
        else:  # so that a training killed in its first epoch resumes too
            module.state = watch.state()
            module.save(self.last)
        source = Source(self.steps)
        try:
            with silence_tensorflow():
                module.fit(
                    source.training(watch.epoch),
                    steps_per_epoch=len(self.steps),
                    initial_epoch=watch.epoch,
                    epochs=self.job.config.training.nepochs,
                    validation_data=source.validation(self.held_out) if self.held_out else None,
                    callbacks=self._callbacks(watch),
                    shuffle=False,  # the regions are drawn
                    verbose=0,  # the command line draws the events
                )
        except tf.errors.OpError as error:
            if source.error is not None:
                raise source.error from error
            raise

    def _callbacks(self, watch: Watch) -> list[keras.callbacks.Callback]:
        config, earlier = self.job.config, list(watch.metrics)
        patience = config.training.early_stop_patience
        return [
            watch,
            *make_loggers(config.execution.logger_backend, self.job.output_dir),
            *([EarlyStopping(self.monitor, patience, earlier)] if patience else []),
            *make_checkpoint_callbacks(self.last.parent, self.monitor, earlier),
        ]

    def load(self, checkpoint: Path) -> PtychoPINN:
        """The model of a checkpoint."""
        return load(checkpoint, compile=False)

    def export_weights(self, module: PtychoPINN) -> Weights:
        """Its network's weights in the neutral layout."""
        return to_neutral(module.network)

    def export_probes(self, module: PtychoPINN) -> NDArray[np.complex64]:
        """Its probes as they have been trained."""
        return np.array(module.current_probes().numpy(), dtype=np.complex64)


def build_model(job: TrainingJob) -> PtychoPINN:
    """A compiled model for a job, its weights those to begin with or drawn from the seed."""
    probes = stack_probes(job)
    model = PtychoPINN(job.config.to_json(), list(probes.shape))
    model.set_probes(probes, stack_good_pixels(job))
    if job.initial is not None:
        load_neutral(model.network, job.initial)
    model.prepare()
    return model


def load(path: Path, *, compile: bool = True) -> PtychoPINN:
    """A checkpoint as it was saved; ModelFileError when it cannot be read. Nothing in it is executed."""
    with open_sealed(path):
        model: PtychoPINN = keras.saving.load_model(path, compile=compile, safe_mode=True)
        return model


def restore_checkpoint(model: PtychoPINN, path: Path) -> dict[str, object]:
    """Fill a model and its optimizer from a checkpoint; returns the state saved with it."""
    saved = load(path)
    with open_sealed(path):
        return _fill(model, saved, path)


def _fill(model: PtychoPINN, saved: PtychoPINN, path: Path) -> dict[str, object]:
    for mine, other in ((model.variables, saved.variables), (model.optimizer.variables, saved.optimizer.variables)):
        if [v.shape for v in mine] != [v.shape for v in other]:
            raise ModelFileError(
                f'The checkpoint {path} is of another network or probe than this configuration describes; '
                'resume with the settings of the first run, or leave out resume=True.'
            )
        for variable, value in zip(mine, other, strict=True):
            variable.assign(value)
    state: dict[str, object] = dict(saved.state)
    return state


@contextmanager
def silence_tensorflow() -> Iterator[None]:
    """Keeps its advice about repeated tracing off a user's terminal: every training traces its own steps, once."""
    logger = tf.get_logger()

    def wanted(record: logging.LogRecord) -> bool:
        return 'triggered tf.function retracing' not in record.getMessage()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
