"""Keras callbacks: learning rate, events, stop requests, the CPU budget, non-finite losses, checkpoints."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from ptychopinn_reconstructor.backend.common import LOSS_CHECK_STEPS, Journal, compute_rate_factor
from ptychopinn_reconstructor.backends.tensorflow_keras.prediction import TensorFlowNetwork

Logs = dict[str, Any] | None


class Watch(keras.callbacks.Callback):
    """Sets the learning rate, tells the job's listener how it goes, and asks it at every step whether to stop.

    Its state goes into the model, which the checkpoints save; so it comes before them in the list of callbacks.
    """

    def __init__(self, journal: Journal, device: str, steps: int, patterns_of_step: int) -> None:
        super().__init__()
        self.journal, self.job, self.device = journal, journal.job, device
        self.training, self.epoch = journal.job.config.training, 0
        self.steps, self.patterns_of_step = steps, patterns_of_step
        self.metrics: list[dict[str, float]] = []

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.journal.restore(state)
        self.epoch, self.metrics = state['epoch'], state['metrics']

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on from: plain JSON types."""
        return {**self.journal.state(), 'epoch': self.epoch, 'metrics': self.metrics}

    @cached_property
    def network(self) -> TensorFlowNetwork:
        """The network in training, as it stands whenever it predicts; traced once."""
        return TensorFlowNetwork(self.model.network, self.job.config, self.device)

    def progress(self, batches: int) -> float:
        """Part of the training that is over after so many batches of the current epoch."""
        group = self.training.accum_steps
        done = (self.epoch * self.steps + batches) // group * group
        return self.journal.clock.progress(done / (self.steps * self.training.nepochs), self.training)

    def learning_rate(self, batches: int) -> float:
        """Of the next batch."""
        return self.training.learning_rate * compute_rate_factor(self.progress(batches), self.training.scheduler)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Set the learning rate of this step."""
        self.model.optimizer.learning_rate = self.learning_rate(batch)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count, check the loss, emit progress, stop when asked or when the CPU budget is spent."""
        if logs and batch % LOSS_CHECK_STEPS == 0:
            self.journal.check(float(logs['loss']), self.epoch + 1)
        limit = self.training.max_cpu_seconds
        if limit and self.journal.clock.seconds() >= limit:
            self.model.stop_training = True
        self.journal.record_step(self.patterns_of_step, self.progress(batch + 1))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Check and emit the losses of the epoch, and give the model what its checkpoints must remember.

        Then show the network as it stands to whoever wants to see it.
        """
        names = {'loss': 'train_loss', 'val_loss': 'val_loss'}
        metrics = {names[name]: float(value) for name, value in (logs or {}).items()}
        if 'val_loss' in metrics:
            self.journal.check(metrics['val_loss'], epoch + 1)
        rate = self.learning_rate(self.steps)
        self.epoch = epoch + 1
        self.journal.record_epoch(self.epoch, metrics, learning_rate=rate)
        self.metrics.append(metrics)
        self.model.state = self.state()
        if logs is not None:  # under the name that `monitor` has in every backend
            logs.update(metrics)
        if self.job.inspect is not None:
            self.job.inspect(self.network)


def make_checkpoint_callbacks(
    folder: Path, monitor: str, earlier: list[dict[str, float]]
) -> list[keras.callbacks.Callback]:
    """Saves best.keras when `monitor` is smaller than ever before, the `earlier` epochs included, and last.keras.

    The last one comes last: a resume believes it, and repeats the epoch whose saving was cut short.
    """
    best, last = (str(folder / name).replace('{', '{{').replace('}', '}}') for name in ('best.keras', 'last.keras'))
    smallest = min((row[monitor] for row in earlier), default=None)
    return [
        keras.callbacks.ModelCheckpoint(
            best, monitor, mode='min', save_best_only=True, initial_value_threshold=smallest
        ),
        keras.callbacks.ModelCheckpoint(last),
    ]


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras' own, which also remembers the epochs before a resume."""

    def __init__(self, monitor: str, patience: int, earlier: list[dict[str, float]]) -> None:
        super().__init__(monitor, patience=patience, mode='min')
        self.earlier = earlier

    def on_train_begin(self, logs: Logs = None) -> None:
        """Begin with what the earlier epochs have left."""
        super().on_train_begin(logs)
        for epoch, row in enumerate(self.earlier):
            self.on_epoch_end(epoch, row)


class MLflow(keras.callbacks.Callback):
    """Writes the losses of every epoch to a local MLflow database."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=f'sqlite:///{(folder / "mlflow.db").resolve()}')
        found = self.client.get_experiment_by_name('ptychopinn')
        artifacts = (folder / 'mlruns').resolve().as_uri()
        experiment = found.experiment_id if found else self.client.create_experiment('ptychopinn', artifacts)
        self.run = self.client.create_run(experiment).info.run_id

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Log this epoch's values."""
        for name, value in (logs or {}).items():
            self.client.log_metric(self.run, name, float(value), step=epoch + 1)

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the run."""
        self.client.set_terminated(self.run)


def make_loggers(kind: str, folder: Path) -> list[keras.callbacks.Callback]:
    """The callbacks of a logger; csv is written from the events by the pipeline, whatever the backend."""
    if kind == 'tensorboard':
        return [keras.callbacks.TensorBoard(folder / 'tensorboard', write_graph=False)]
    return [MLflow(folder)] if kind == 'mlflow' else []
