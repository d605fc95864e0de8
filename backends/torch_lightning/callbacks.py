"""Lightning callbacks: events, stop requests, the CPU budget, non-finite losses, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backend.common import LOSS_CHECK_STEPS, Journal
from ptychopinn_reconstructor.backends.torch_lightning.module import Batch, PtychoPINN
from ptychopinn_reconstructor.backends.torch_lightning.prediction import TorchNetwork
from ptychopinn_reconstructor.backends.torch_lightning.together import Together


class Watch(Callback):
    """Tells the job's listener how it goes, and asks it at every batch whether to stop."""

    def __init__(self, journal: Journal, together: Together | None = None) -> None:
        self.job, self.journal, self.together = journal.job, journal, together
        self.has_begun = False
        self.regions = 0  # of the step, over all processes

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return self.journal.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.journal.restore(state_dict)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave nothing to train where more epochs are done than the job asks for; Lightning would refuse that."""
        done = len(checkpoint['callbacks'][self.state_key]['losses'])
        trainer.fit_loop.max_epochs = max(self.job.config.training.nepochs, done)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a checkpoint at once, so that a training killed in its first epoch resumes too."""
        self.has_begun = True
        if self.together is not None:
            self.together.begin()
        if trainer.global_step == 0:
            trainer.save_checkpoint(self.job.output_dir / 'checkpoints' / 'last.ckpt')

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Agree with the other processes; the gradients are their mean, so that the loss is weighted by the part."""
        assert isinstance(pl_module, PtychoPINN)
        self.regions = len(batch.counts)
        if self.together is not None:
            self.regions = self.together.agree(len(batch.counts))
            pl_module.share = len(batch.counts) * self.together.ranks / self.regions

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, check the loss, emit progress, stop when asked or when the CPU budget is spent."""
        assert isinstance(pl_module, PtychoPINN)
        if batch_idx % LOSS_CHECK_STEPS == 0:
            self.journal.check(float(outputs['loss']), trainer.current_epoch + 1)
        limit = self.job.config.training.max_cpu_seconds
        if limit and self.journal.clock.seconds() >= limit:
            trainer.should_stop = True
        self.journal.record_step(
            self.regions * batch.counts.shape[1],
            pl_module.progress(trainer.global_step / trainer.estimated_stepping_batches),
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the held-out loss."""
        if not trainer.sanity_checking and 'val_loss' in trainer.callback_metrics:
            self.journal.check(float(trainer.callback_metrics['val_loss']), trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Emit the metrics of the epoch, and show the network as it stands to whoever wants to see it."""
        assert isinstance(pl_module, PtychoPINN)
        self.journal.record_epoch(
            trainer.current_epoch + 1,
            {name: float(value) for name, value in trainer.callback_metrics.items()},
            learning_rate=float(trainer.optimizers[0].param_groups[0]['lr']),
        )
        if self.job.inspect is not None:
            pl_module.network.eval()
            self.job.inspect(TorchNetwork(pl_module.network, self.job.config))
            pl_module.network.train()


class Saving(ModelCheckpoint):
    """Lightning's own, which also goes on in a folder that was moved: it would forget which epoch was the best."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; the files that it names lie where they lie now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = ('best_model_path', 'kth_best_model_path', 'last_model_path')
        best = {here(path): score for path, score in state_dict['best_k_models'].items()}
        moved = {'dirpath': self.dirpath, 'best_k_models': best, **{name: here(state_dict[name]) for name in paths}}
        super().load_state_dict({**state_dict, **moved})


def make_checkpoint_callbacks(folder: Path, job: TrainingJob, monitor: str) -> list[Callback]:
    """last.ckpt after every epoch, best.ckpt by `monitor`, early stopping when asked for."""
    training = job.config.training
    common: dict[str, Any] = {'dirpath': folder, 'save_on_train_epoch_end': True, 'enable_version_counter': False}
    callbacks: list[Callback] = [
        Saving(filename='best', monitor=monitor, save_top_k=1, **common),
        Saving(filename='last', save_top_k=1, **common),
    ]
    if training.early_stop_patience:
        callbacks.append(EarlyStopping(monitor, patience=training.early_stop_patience))
    return callbacks
