"""A training with Keras: model, pipeline, callbacks, and what is returned of them."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainedModel, TrainingJob
from ptychopinn_reconstructor.backend.batches import Step, Steps, good_of, probes_of, steps_of, unpadded
from ptychopinn_reconstructor.backend.common import StopRequested
from ptychopinn_reconstructor.backends.tensorflow_keras.callbacks import EarlyStopping, Watch, checkpoints, loggers
from ptychopinn_reconstructor.backends.tensorflow_keras.data import Source
from ptychopinn_reconstructor.backends.tensorflow_keras.model import PtychoPINN
from ptychopinn_reconstructor.backends.tensorflow_keras.weights import load_neutral, to_neutral
from ptychopinn_reconstructor.errors import ModelFileError


def train(job: TrainingJob, device: str) -> TrainedModel:
    """Train on a resolved device; the weights returned are those of the best epoch."""
    folder = job.output_dir / 'checkpoints'
    last = folder / 'last.keras'
    if job.resume and not last.exists():
        raise ModelFileError(f'There is nothing to resume: {last} does not exist; leave out --resume.')
    folder.mkdir(parents=True, exist_ok=True)
    steps = steps_of(job)
    held_out = steps.of_validation()
    monitor = job.config.training.checkpoint_monitor_metric if held_out else 'train_loss'
    model, watch = new_model(job), Watch(job, device, len(steps), steps.r * steps.k)
    if job.resume:
        watch.restore(take_over(model, last))
    else:  # so that a training killed in its first epoch resumes too
        model.state = watch.state()
        model.save(last)
    interrupted = not fit(model, job, steps, held_out, watch, monitor)
    best = folder / 'best.keras'
    if not best.exists() or not watch.journal.losses:
        return TrainedModel(
            to_neutral(model.network), _probes(model, job), tuple(watch.journal.losses), {}, interrupted
        )
    chosen = load(best, compile=False)
    summary = watch.journal.summary(
        device=device,
        monitor=monitor,
        parameters=model.network.count_params(),
        cpu_seconds=watch.clock.seconds(),
    )
    return TrainedModel(
        to_neutral(chosen.network), _probes(chosen, job), tuple(watch.journal.losses), summary, interrupted
    )


def fit(model: PtychoPINN, job: TrainingJob, steps: Steps, held_out: list[Step], watch: Watch, monitor: str) -> bool:
    """Run Keras' fit to its end; False when it was asked to stop before."""
    training, source = job.config.training, Source(steps)
    callbacks = [watch, *loggers(job.config.execution.logger_backend, job.output_dir)]
    if training.early_stop_patience:
        callbacks.append(EarlyStopping(monitor, training.early_stop_patience, list(watch.metrics)))
    callbacks += checkpoints(job.output_dir / 'checkpoints', monitor, watch.metrics)
    try:
        with quiet_tensorflow():
            model.fit(
                source.training(watch.epoch),
                steps_per_epoch=len(steps),
                initial_epoch=watch.epoch,
                epochs=training.nepochs,
                validation_data=source.validation(held_out) if held_out else None,
                callbacks=callbacks,
                shuffle=False,  # the regions are drawn
                verbose=0,  # the command line draws the events
            )
    except StopRequested:
        return False
    except tf.errors.OpError as error:
        if source.error is not None:
            raise source.error from error
        raise
    return True


def new_model(job: TrainingJob) -> PtychoPINN:
    """A compiled model for a job, its weights those to begin with or drawn from the seed."""
    probes = probes_of(job)
    model = PtychoPINN(job.config.to_json(), list(probes.shape))
    model.set_probes(probes, good_of(job))
    if job.initial is not None:
        load_neutral(model.network, job.initial)
    model.prepare()
    return model


def load(path: Path, *, compile: bool = True) -> PtychoPINN:
    """A checkpoint as it was saved; ModelFileError when it cannot be read. Nothing in it is executed."""
    try:
        model: PtychoPINN = keras.saving.load_model(path, compile=compile, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelFileError(f'The checkpoint {path} cannot be read ({error}); train anew without --resume.') from error
    return model


def take_over(model: PtychoPINN, path: Path) -> dict[str, object]:
    """Fill a model and its optimizer from a checkpoint; returns the state saved with it."""
    saved = load(path)
    for mine, other in ((model.variables, saved.variables), (model.optimizer.variables, saved.optimizer.variables)):
        if [v.shape for v in mine] != [v.shape for v in other]:
            raise ModelFileError(
                f'The checkpoint {path} is of another network or probe than this configuration describes; '
                'resume with the settings of the first run, or leave out --resume.'
            )
        for variable, value in zip(mine, other, strict=True):
            variable.assign(value)
    state: dict[str, object] = dict(saved.state)
    return state


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps its advice about repeated tracing off a user's terminal: every training traces its own steps, once."""
    logger = tf.get_logger()

    def wanted(record: logging.LogRecord) -> bool:
        return 'triggered tf.function retracing' not in record.getMessage()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def _probes(model: PtychoPINN, job: TrainingJob) -> tuple[NDArray[np.complex64], ...]:
    return unpadded(np.array(model.current_probes().numpy(), dtype=np.complex64), job)
