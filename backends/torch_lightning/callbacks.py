"""Lightning callbacks: events, stop requests, the CPU budget, non-finite losses, checkpoints."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.errors import TrainingError
from ptychopinn_reconstructor.events import Event

from .module import Batch, PtychoPINN

LOSS_CHECK_STEPS = 8  # reading a loss waits for the device, so not at every step


class StopRequested(Exception):  # noqa: N818 - a signal, not an error
    """Leaves `fit` at once; the last checkpoint stays as it is."""


class Watch(Callback):
    """Tells the job's listener how it goes, and asks it at every batch whether to stop."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.losses: list[tuple[int, float]] = []
        self.patterns_seen = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {'losses': [list(pair) for pair in self.losses], 'patterns_seen': self.patterns_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.losses = [(int(epoch), float(value)) for epoch, value in state_dict['losses']]
        self.patterns_seen = int(state_dict['patterns_seen'])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a checkpoint at once, so that a training killed in its first epoch resumes too."""
        if trainer.global_step == 0:
            trainer.save_checkpoint(self.job.output_dir / 'checkpoints' / 'last.ckpt')

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, check the loss, emit progress, stop when asked or when the CPU budget is spent."""
        assert isinstance(pl_module, PtychoPINN)
        self.patterns_seen += batch.counts.shape[0] * batch.counts.shape[1]
        if batch_idx % LOSS_CHECK_STEPS == 0:
            self._check(float(outputs['loss']), trainer)
        total = trainer.estimated_stepping_batches
        done = pl_module.progress(trainer.global_step / total)
        self.job.emit(Event('progress', {'stage': 'train', 'done': done, 'total': 1.0}))
        limit = self.job.config.training.max_cpu_seconds
        if limit and pl_module.cpu_seconds() >= limit:
            trainer.should_stop = True
        if self.job.should_stop():
            raise StopRequested

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the held-out loss."""
        if not trainer.sanity_checking and 'val_loss' in trainer.callback_metrics:
            self._check(float(trainer.callback_metrics['val_loss']), trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Emit the metrics of the epoch."""
        assert isinstance(pl_module, PtychoPINN)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if 'train_loss' in metrics:
            self._check(metrics['train_loss'], trainer)
            self.losses.append((trainer.current_epoch + 1, metrics['train_loss']))
        row = {
            'stage': 'train',
            'epoch': trainer.current_epoch + 1,
            'total': trainer.max_epochs,
            **metrics,
            'learning_rate': float(trainer.optimizers[0].param_groups[0]['lr']),
            'patterns_seen': self.patterns_seen,
            'cpu_seconds': pl_module.cpu_seconds(),
        }
        self.job.emit(Event('epoch', row))

    def _check(self, loss: float, trainer: pl.Trainer) -> None:
        if not isfinite(loss):
            raise TrainingError(
                f'The loss became {loss} in epoch {trainer.current_epoch + 1}; the last good checkpoint is kept in '
                f'{self.job.output_dir / "checkpoints"}: resume with a lower learning_rate, or check the patterns.'
            )


def checkpoints(folder: Path, job: TrainingJob, monitor: str) -> list[Callback]:
    """last.ckpt after every epoch, best.ckpt (or the best few) by `monitor`, early stopping when asked for."""
    training = job.config.training
    top = training.checkpoint_save_top_k
    common: dict[str, Any] = {'dirpath': folder, 'save_on_train_epoch_end': True, 'enable_version_counter': False}
    callbacks: list[Callback] = [
        ModelCheckpoint(
            filename='best' if top == 1 else 'best-{epoch:04d}',
            monitor=monitor,
            mode=training.checkpoint_mode,
            save_top_k=top,
            **common,
        ),
        ModelCheckpoint(filename='last', save_top_k=1, **common),
    ]
    if training.early_stop_patience:
        callbacks.append(EarlyStopping(monitor, patience=training.early_stop_patience, mode=training.checkpoint_mode))
    return callbacks
