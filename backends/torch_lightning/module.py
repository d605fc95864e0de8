"""The LightningModule: network, physics and loss of a training step, and all a checkpoint needs to rebuild it."""

from __future__ import annotations

from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ptychopinn_reconstructor.backend.common import (
    BETAS,
    EPSILON,
    PROBE_PULL,
    PROBE_RATE,
    SCALE_LIMIT,
    WEIGHT_DECAY,
    CpuClock,
    compute_rate_factor,
)
from ptychopinn_reconstructor.backends.torch_lightning import physics
from ptychopinn_reconstructor.backends.torch_lightning.description import DESCRIPTION
from ptychopinn_reconstructor.config import parse


class Batch(NamedTuple):
    """R regions of K patterns on canvases of (height, width); labels are None where there are none to learn from."""

    counts: Tensor  # (R, K, N, N)
    root4: Tensor  # (R K, N, N)
    backprojection: Tensor  # (R K, 2, n, n)
    corners: Tensor  # (R, K, 2), relative to the smallest of the region
    fractions: Tensor  # (R, K, 2)
    scan: Tensor  # (R,) which scan's probe
    dose: Tensor  # (R,) photons in units of that probe's power
    beam: Tensor  # (R, K) factors on the power of the beam
    background: Tensor  # (R, N, N) counts
    labels: Tensor | None  # (R K, n, n) complex
    canvas: tuple[int, int]


class PtychoPINN(pl.LightningModule):
    """Network and physics; `load_from_checkpoint(path)` needs nothing but the path.

    `config` is the full configuration as plain JSON; `probe_shape` = (scans, modes, N, N). Probes (sqrt(counts)) and
    good pixels are buffers, set by `set_probes` or by a checkpoint.
    """

    probes: Tensor
    good: Tensor

    def __init__(self, config: dict[str, Any], probe_shape: list[int]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.config = parse(config)
        self.network = DESCRIPTION.builder(self.config.model.architecture)(self.config)
        scans, _, n_pixels, _ = probe_shape
        self.register_buffer('probes', torch.zeros(*probe_shape, dtype=torch.complex64))
        self.register_buffer('good', torch.ones(scans, n_pixels, n_pixels))
        training = self.config.training
        self.probe_change = nn.Parameter(torch.zeros(*probe_shape, 2)) if training.probe_trainable else None
        self.log_scale = nn.Parameter(torch.zeros(scans)) if training.intensity_scale_trainable else None
        self.clock = CpuClock()  # a training's own, so that the schedule can follow it
        self.share = 1.0  # weight of this process's loss where several train together, whose gradients are averaged
        self.several = False

    def set_probes(self, probes: Tensor, good: Tensor) -> None:
        """Take probes (scans, modes, N, N) and good pixels (scans, N, N)."""
        self.probes.copy_(probes)
        self.good.copy_(good)

    def current_probes(self) -> Tensor:
        """Probes (scans, modes, N, N) with what has been trained of them; their power is held."""
        probes = self.probes
        if self.probe_change is not None:
            peak = probes.abs().amax(dim=(-3, -2, -1), keepdim=True)
            changed = probes + peak * torch.view_as_complex(self.probe_change)
            held = physics.power(probes).sum(dim=(-2, -1)) / physics.power(changed).sum(dim=(-2, -1))
            probes = changed * held.sqrt()[:, None, None, None]
        if self.log_scale is not None:
            probes = probes * torch.exp(SCALE_LIMIT * torch.tanh(self.log_scale))[:, None, None, None]
        return probes

    def forward(self, root4: Tensor, backprojection: Tensor) -> Tensor:
        """(b, N, N) and (b, 2, n, n) to complex patches (b, n, n) in the probe's frame."""
        patches = torch.polar(*self.network(root4, backprojection))
        return physics.smooth_patches(patches, self.config.model.gaussian_smoothing_sigma)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The loss of one batch."""
        loss = self._loss(batch)
        self.log(
            'train_loss',
            loss.detach(),
            on_step=False,
            on_epoch=True,
            batch_size=_patterns(batch),
            sync_dist=self.several,
        )
        return loss * self.share if self.several else loss

    def validation_step(self, batch: Batch, step: int) -> None:
        """The loss of one held-out batch."""
        self.log('val_loss', self._loss(batch), on_epoch=True, batch_size=_patterns(batch), sync_dist=self.several)

    def _loss(self, batch: Batch) -> Tensor:
        amplitude, phase = self.network(batch.root4, batch.backprojection)
        with torch.autocast(self.device.type, enabled=False):  # the physics stays in single precision
            patches = physics.smooth_patches(torch.polar(amplitude, phase), self.config.model.gaussian_smoothing_sigma)
            probes = self.current_probes()[batch.scan] * batch.dose.sqrt()[:, None, None, None]
            if batch.labels is not None:
                probes = probes.detach()  # it only weighs the errors: bending it would lower them and teach nothing
                loss = self._supervised_loss(patches, batch, probes)
            else:
                loss = self._likelihood(patches, batch, probes[:, None])
            return loss + self._roughness(patches, probes)

    def _likelihood(self, patches: Tensor, batch: Batch, probe: Tensor) -> Tensor:
        regions, k, n_pixels, _ = batch.counts.shape
        n = patches.shape[-1]
        height, width = batch.canvas
        shifted = physics.shift_probe(probe, batch.fractions)
        inner = physics.window_index(batch.corners + (n_pixels - n) // 2, n, width)
        canvas = physics.assemble(
            patches.view(regions, k, n, n), probe, shifted, batch.fractions, inner, height * width
        )
        windows = physics.gather(canvas, physics.window_index(batch.corners, n_pixels, width))
        diffracted = physics.measure(physics.propagate(physics.illuminate(shifted, windows)))
        intensity = physics.detect(diffracted, batch.beam, batch.background)
        good = self.good[batch.scan][:, None].expand_as(intensity)
        training = self.config.training
        loss = training.nll_weight * physics.poisson_loss(intensity, batch.counts, good)
        if training.mae_weight:
            unit = self._mean_counts(batch).sqrt().clamp(min=1e-6)
            loss = loss + training.mae_weight * physics.amplitude_loss(intensity, batch.counts, good) / unit
        if self.probe_change is not None:
            loss = loss + PROBE_PULL * self._probe_change_power(self.probe_change)
        return loss

    def _mean_counts(self, batch: Batch) -> Tensor:
        """Mean counts of a step per pixel, over all processes."""
        mean = batch.counts.mean()
        if self.several and self.training:
            mean = mean * self.share
            torch.distributed.all_reduce(mean, torch.distributed.ReduceOp.SUM)
            mean = mean / torch.distributed.get_world_size()
        return mean

    def _probe_change_power(self, change: Tensor) -> Tensor:
        """Power of what was trained of the probes, relative to theirs; mean over the scans."""
        peak, power = self.probes.abs().amax(dim=(-3, -2, -1)), physics.power(self.probes).sum(dim=(-2, -1))
        return (peak.square() * change.square().sum(dim=(-4, -3, -2, -1)) / power).mean()

    def _supervised_loss(self, patches: Tensor, batch: Batch, probe: Tensor) -> Tensor:
        assert batch.labels is not None  # the adapter has checked it
        k = batch.counts.shape[1]
        probe = probe.repeat_interleave(k, dim=0)  # (R K, modes, N, N)
        counts = batch.counts.flatten(0, 1)
        loss = physics.exit_wave_loss(patches, batch.labels, probe)
        training = self.config.training
        if training.far_field_weight:
            loss = loss + training.far_field_weight * physics.far_field_loss(patches, batch.labels, probe, counts)
        if training.realspace_mae_weight:
            lit = physics.crop_support(physics.power(probe), patches.shape[-1])
            loss = loss + training.realspace_mae_weight * physics.object_error(patches, batch.labels, lit)
        return loss

    def _roughness(self, patches: Tensor, probes: Tensor) -> Tensor | float:
        """The weighted total variation of patches (R K, n, n) under each region's probe (R, modes, N, N)."""
        factor = self.config.training.realspace_weight
        if not factor:
            return 0.0
        weight = physics.crop_support(physics.power(probes), patches.shape[-1])
        weight = weight.repeat_interleave(len(patches) // len(probes), dim=0)
        return factor * physics.total_variation(patches, weight)

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and decay over the steps or the CPU time of the training, whichever ends first."""
        training = self.config.training
        groups: list[dict[str, Any]] = [{'params': list(self.network.parameters())}]
        if self.probe_change is not None:
            groups.append(
                {'params': [self.probe_change], 'lr': training.learning_rate * PROBE_RATE, 'weight_decay': 0.0}
            )
        if self.log_scale is not None:
            groups.append({'params': [self.log_scale], 'weight_decay': 0.0})
        optimizer = torch.optim.AdamW(
            groups,
            lr=training.learning_rate,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=WEIGHT_DECAY,
            # Lightning cannot clip gradients for a fused optimizer in mixed precision.
            fused=self.device.type in ('cpu', 'cuda') and self.config.execution.precision == '32',
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: compute_rate_factor(self.progress(step / total), training.scheduler)
        )
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the probe a gradient of 0 where the batches had labels, which say nothing of it: AdamW skips None.

        With 0 its momentum acts in such a step too, as in every backend.
        """
        for parameter in (self.probe_change, self.log_scale):
            if parameter is not None and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def progress(self, steps_done: float) -> float:
        """Part of the training that is over, `steps_done` being that of its steps."""
        return self.clock.progress(steps_done, self.config.training)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the learning rate of this run instead of the one that was saved."""
        factor = (
            self.config.training.learning_rate / checkpoint['hyper_parameters']['config']['training']['learning_rate']
        )
        for scheduler in checkpoint.get('lr_schedulers', ()):
            scheduler['base_lrs'] = [rate * factor for rate in scheduler['base_lrs']]
        for optimizer in checkpoint.get('optimizer_states', ()):  # the scheduler sets it after the first step only
            for group in optimizer['param_groups']:
                group['lr'] *= factor


def _patterns(batch: Batch) -> int:
    return batch.counts.shape[0] * batch.counts.shape[1]
