"""A training with Lightning: trainer, module, loggers, and what is returned of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import TrainingJob, Weights
from ptychopinn_reconstructor.backend.base import Training
from ptychopinn_reconstructor.backend.batches import stack_good_pixels, stack_probes
from ptychopinn_reconstructor.backend.common import StopRequested
from ptychopinn_reconstructor.backends.torch_lightning.callbacks import Watch, make_checkpoint_callbacks
from ptychopinn_reconstructor.backends.torch_lightning.checkpoints import SealedCheckpointIO, read_checkpoint
from ptychopinn_reconstructor.backends.torch_lightning.data import EpochSteps, HeldOutSteps, make_loader
from ptychopinn_reconstructor.backends.torch_lightning.module import PtychoPINN
from ptychopinn_reconstructor.backends.torch_lightning.together import Together, end_with_others
from ptychopinn_reconstructor.backends.torch_lightning.weights import load_neutral, to_neutral
from ptychopinn_reconstructor.io.sealing import open_sealed


class TorchTraining(Training[PtychoPINN]):
    """Lightning's Trainer over a LightningModule."""

    suffix = '.ckpt'

    def __init__(self, job: TrainingJob, device: str) -> None:
        self.together = Together(job) if job.ranks > 1 else None
        super().__init__(job if self.together is None else self.together.job, device)
        if self.together is not None:
            self.journal.clock = self.together.clock

    def build_module(self) -> PtychoPINN:
        """The module of the job."""
        return build_module(self.job)

    def fit(self, module: PtychoPINN) -> None:
        """Run Lightning's fit to its end."""
        module.clock, module.several = self.journal.clock, self.together is not None
        saving = make_checkpoint_callbacks(self.last.parent, self.job, self.monitor)
        watch = Watch(self.journal, self.together)
        lost = nullcontext() if self.together is None else end_with_others()
        with lost, silence_lightning(), restore_algorithms(), self._resuming(module, watch):
            trainer = make_trainer(self.job, self.device, [watch, *saving])
            try:
                trainer.fit(
                    module,
                    make_loader(self.steps, EpochSteps(self.steps)),
                    make_loader(self.steps, HeldOutSteps(self.steps.list_validation_part())) if self.held_out else None,
                    ckpt_path=str(self.last) if self.job.resume else None,
                    weights_only=True,  # no pickle is executed; before PyTorch 2.6 that is not the default
                )
            except SIGTERMException as signal:  # Lightning raises its own when a handler of ours is there
                raise StopRequested from signal

    @contextmanager
    def _resuming(self, module: PtychoPINN, watch: Watch) -> Iterator[None]:
        """A block in which Lightning resumes and trains; what fails before the first step is the checkpoint's fault.

        Raises ModelFileError then.
        """
        if not self.job.resume:
            yield
            return
        with open_sealed(self.last):
            module.load_state_dict(read_checkpoint(self.last)['state_dict'])
        try:
            yield
        except Exception:
            if watch.has_begun:
                raise
            with open_sealed(self.last):
                raise

    def load(self, checkpoint: Path) -> PtychoPINN:
        """The module of a checkpoint, on the CPU."""
        with open_sealed(checkpoint):
            return PtychoPINN.load_from_checkpoint(checkpoint, map_location='cpu', weights_only=True)

    def export_weights(self, module: PtychoPINN) -> Weights:
        """Its network's weights in the neutral layout."""
        return to_neutral(module.network)

    def export_probes(self, module: PtychoPINN) -> NDArray[np.complex64]:
        """Its probes as they have been trained."""
        return np.asarray(module.current_probes().detach().cpu().numpy(), dtype=np.complex64)


def build_module(job: TrainingJob) -> PtychoPINN:
    """A module for a job: probes padded with empty modes to a common number, weights initial or drawn from the seed."""
    probes = stack_probes(job)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.config.training.seed)
        module = PtychoPINN(job.config.to_json(), list(probes.shape))
    module.set_probes(torch.from_numpy(probes), torch.from_numpy(stack_good_pixels(job)))
    if job.initial is not None:
        load_neutral(module.network, job.initial)
    return module


def make_trainer(job: TrainingJob, device: str, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer as the configuration asks for it."""
    training, execution = job.config.training, job.config.execution
    kind, _, number = device.partition(':')
    precision: Any = {'32': '32-true'}.get(execution.precision, execution.precision)
    return pl.Trainer(
        accelerator=kind,
        devices=[int(number)] if number and job.ranks == 1 else execution.devices,
        num_nodes=execution.num_nodes,
        strategy=make_strategy(job),
        precision=precision,
        max_epochs=training.nepochs,
        accumulate_grad_batches=training.accum_steps,
        gradient_clip_val=training.gradient_clip_val or None,
        deterministic=True,
        callbacks=callbacks,
        logger=make_logger(execution.logger_backend, job.output_dir),
        default_root_dir=job.output_dir,
        plugins=[SealedCheckpointIO()],
        enable_progress_bar=False,  # the command line draws the events
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def make_strategy(job: TrainingJob) -> Any:
    """Lightning's strategy: DDP where several processes train together.

    Buffers never change, so that they are not sent at each step; steps with labels leave the probe without a gradient.
    """
    if job.ranks == 1:
        return 'auto'
    training = job.config.training
    has_labels = job.procedural is not None or job.config.model.model_type == 'supervised'
    some_unused = has_labels and (training.probe_trainable or training.intensity_scale_trainable)
    return pl.strategies.DDPStrategy(broadcast_buffers=False, find_unused_parameters=some_unused)


def make_logger(kind: str, folder: Path) -> Any:
    """Lightning's logger; csv is written from the events by the pipeline, whatever the backend."""
    if kind == 'tensorboard':
        return pl.loggers.TensorBoardLogger(folder, name='tensorboard')
    if kind == 'mlflow':
        return pl.loggers.MLFlowLogger(
            experiment_name='ptychopinn',
            tracking_uri=f'sqlite:///{(folder / "mlflow.db").resolve()}',
            artifact_location=(folder / 'mlruns').resolve().as_uri(),
        )
    return False


@contextmanager
def restore_algorithms() -> Iterator[None]:
    """Leaves PyTorch's deterministic mode as it was; inside, new tensors are not filled with NaN.

    That filling helps in debugging and costs 3 % of a step.
    """
    flags: Any = torch.utils.deterministic
    filling, deterministic = flags.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    flags.fill_uninitialized_memory = False
    try:
        yield
    finally:
        flags.fill_uninitialized_memory = filling
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def silence_lightning() -> Iterator[None]:
    """Keeps Lightning's banners, and its warnings about our deliberate choices, off a user's terminal."""
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # Batches are prepared in this process by default: at 2 % of a step, workers cost more than they bring.
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        # Resuming and keeping several checkpoints both write where files are.
        warnings.filterwarnings('ignore', message='.*Checkpoint directory .* exists and is not empty.*')
        # Scans too small to hold a part out are trained without validation.
        warnings.filterwarnings('ignore', message='.*no `val_dataloader`.*')
        # Loggers get one row an epoch, not one every 50 steps.
        warnings.filterwarnings('ignore', message='.*smaller than the logging interval.*')
        # Lightning's own use of a name that PyTorch has deprecated; nothing of ours can change it.
        warnings.filterwarnings('ignore', message='.*isinstance.treespec, LeafSpec.*')
        # Its new name is not in every release of PyTorch that we allow.
        warnings.filterwarnings('ignore', message='.*`broadcast_buffers` is deprecated.*')
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
