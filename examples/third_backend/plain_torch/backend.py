"""A backend in plain PyTorch. R regions of K patterns; clauses are those of specs/backend_contract.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import e, inf, log, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as nnf

from ptychopinn_reconstructor.backend import TrainingJob, Weights, common
from ptychopinn_reconstructor.backend.base import Training, TrainingBackend
from ptychopinn_reconstructor.backend.batches import Step, stack_good_pixels, stack_probes
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.io.sealing import open_sealed, write_sealed
from ptychopinn_reconstructor.physics.smoothing import smoothing_matrix

from .description import DESCRIPTION

AMPLITUDES = {
    'sigmoid': lambda y, top: top * torch.sigmoid(y - log(top - 1)),
    'softplus': lambda y, top: nnf.softplus(y + log(e - 1)),
    'relu': lambda y, top: nnf.relu(y + 1),
    'swish': lambda y, top: nnf.silu(y + 1.2784645),
}


class UNet:
    """The network (B21, B22), its weights as they are in the model file (B18, B19)."""

    def __init__(self, config: Config) -> None:
        self.model, r2 = config.model, config.model.block**2
        w1, w2, w3 = common.compute_widths(config.model.n_filters_scale)
        layers = {'stem': (3, 16 + 2 * r2, w1), 'down1': (3, w1, w2), 'down2': (3, w2, w3), 'head': (3, w1, 2 * r2)}
        layers |= {'up2': (1, w3, 4 * w2), 'up1': (1, w2, 4 * w1)}
        for block, w in (('enc1', w1), ('enc2', w2), ('middle', w3), ('dec2', w2), ('dec1', w1)):
            layers |= {f'{block}.conv1': (3, w, w), f'{block}.conv2': (3, w, w)}
        self.shapes: dict[str, tuple[int, ...]] = {f'{name}.kernel': (s, s, i, o) for name, (s, i, o) in layers.items()}
        self.shapes |= {f'{name}.bias': (outside,) for name, (_, _, outside) in layers.items()}

    def draw(self, seed: int) -> dict[str, NDArray[np.float32]]:
        rng, drawn = np.random.default_rng(seed), dict[str, NDArray[np.float32]]()
        for name, shape in self.shapes.items():
            bound = 0 if name.endswith('bias') else np.prod(shape[:-1]) ** -0.5
            bound *= 0.1 if name == 'head.kernel' else 1  # near an empty object (B16)
            drawn[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        return drawn

    def fill(self, weights: Weights) -> 'UNet':
        common.check_weights(weights, self.shapes)
        self.weights = {name: torch.tensor(np.asarray(weights[name])) for name in self.shapes}
        return self

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        with torch.inference_mode():
            return self.patches(torch.from_numpy(root4), torch.from_numpy(backprojection))[0].contiguous().numpy()

    def patches(self, root4: Tensor, backprojection: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (b, n, n), and the loss of what is saturated (B47)."""
        x = torch.cat([to_depth(root4[:, None], 4), to_depth(backprojection, self.model.block)], 1)
        x1 = self.residual('enc1', self.conv('stem', x, act=False))
        x2 = self.residual('enc2', self.conv('down1', x1, stride=2))
        x3 = self.residual('middle', self.conv('down2', x2, stride=2))
        x2 = self.residual('dec2', x2 + to_space(self.conv('up2', x3, act=False), 2))
        x1 = self.residual('dec1', x1 + to_space(self.conv('up1', x2, act=False), 2))
        y = to_space(self.conv('head', x1), self.model.block)
        amplitude = AMPLITUDES[self.model.amp_activation](y[:, 0], self.model.amplitude_max)
        o = torch.polar(amplitude, pi * torch.tanh(y[:, 1]))
        if sigma := self.model.gaussian_smoothing_sigma:
            matrix = torch.from_numpy(smoothing_matrix(o.shape[-1], sigma)).to(o.dtype)
            o = matrix @ o @ matrix.T
        limit = common.SATURATION
        return o, 2 * common.SATURATION_PULL * nnf.huber_loss(y, y.detach().clamp(-limit, limit), delta=limit)

    def conv(self, layer: str, x: Tensor, stride: int = 1, act: bool = True) -> Tensor:
        kernel = self.weights[f'{layer}.kernel'].permute(3, 2, 0, 1)
        x = nnf.leaky_relu(x, 0.1) if act else x
        return nnf.conv2d(x, kernel, self.weights[f'{layer}.bias'], stride, kernel.shape[-1] // 2)

    def residual(self, block: str, x: Tensor) -> Tensor:
        return x + self.conv(f'{block}.conv2', self.conv(f'{block}.conv1', x))


def to_depth(x: Tensor, r: int) -> Tensor:
    """(b, c, r h, r w) to (b, r r c, h, w), channels ordered (row, column, channel)."""
    return x.unflatten(3, (-1, r)).unflatten(2, (-1, r)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def to_space(x: Tensor, r: int) -> Tensor:
    """(b, r r c, h, w) to (b, c, r h, r w)."""
    return x.unflatten(1, (r, r, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


def power(wave: Tensor) -> Tensor:
    """abs(wave)^2, modes added: (..., modes, N, N) to (..., N, N)."""
    return wave.abs().square().sum(dim=-3)


def crop(images: Tensor, n: int) -> Tensor:
    """The central n x n of (..., N, N)."""
    low = (images.shape[-1] - n) // 2
    return images[..., low : low + n, low : low + n]


def shift(images: Tensor, f: Tensor) -> Tensor:
    """Images (..., n, n) shifted by f (..., 2) pixels."""
    k = torch.fft.fftfreq(images.shape[-1])
    turns = f[..., 0, None, None] * k[:, None] + f[..., 1, None, None] * k
    return torch.fft.ifft2(torch.fft.fft2(images) * torch.exp(-2j * pi * turns))


def diffract(wave: Tensor) -> Tensor:
    """Counts (..., N, N) of exit waves (..., modes, N, N)."""
    return torch.fft.fftshift(power(torch.fft.fft2(wave, norm='ortho')), dim=(-2, -1))


def average(x: Tensor, w: Tensor) -> Tensor:
    """Mean over patches (b, n, n) of their means under the weights w."""
    return ((w * x).sum(dim=(1, 2)) / w.sum(dim=(1, 2))).mean()


def assemble(o: Tensor, probe: Tensor, shifted: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Windows (R, K, N, N) of the regions' canvases, which stand below each other as one, of patches (R, K, n, n)."""
    (regions, k, n, _), side = o.shape, probe.shape[-1]
    height, width = (batch['corners'].amax(dim=(0, 1)) + side).tolist()
    corners = batch['corners'] + torch.arange(regions)[:, None, None] * torch.tensor([height, 0])

    def find_pixels(size: int) -> Tensor:
        rows, columns = (corners[..., axis, None] + (side - size) // 2 + torch.arange(size) for axis in (0, 1))
        return rows[..., :, None] * width + columns[..., None, :]

    def add(x: Tensor) -> Tensor:
        return torch.zeros(regions * height * width, dtype=x.dtype).index_add(0, inner.flatten(), x.flatten())

    w, inner = crop(power(probe), n), find_pixels(n)
    u = shift(w[:, None] * o, batch['fractions'])
    if k > 1:
        apart = torch.zeros(regions, k, height * width, dtype=u.dtype)
        apart.scatter_(2, (inner % (height * width)).flatten(2), u.detach().flatten(2))
        overlaps = torch.nan_to_num(apart @ apart.mH, 0.0, 0.0, 0.0)  # B40: the loss tells what is not finite
        phases = torch.linalg.eigh(overlaps)[1][..., -1].angle()
        u = u * torch.exp(-1j * (phases - phases[:, :1]))[..., None, None]
    eps = 1e-3 * w.amax(dim=(1, 2)).repeat_interleave(height * width)
    return ((add(u) + eps) / (add(crop(power(shifted), n)) + eps))[find_pixels(side)]


class PlainTraining(Training[UNet]):
    """A training of a network on the CPU."""

    suffix = '.pt'

    def __init__(self, job: TrainingJob, device: str) -> None:
        super().__init__(job, device)
        self.asked, self.length = job.config.training, len(self.steps)
        self.probes, self.good = torch.from_numpy(stack_probes(job)), torch.from_numpy(stack_good_pixels(job))
        self.change, self.scale = torch.zeros(*self.probes.shape, 2), torch.zeros(len(self.probes))  # of probes (B28)

    def build_module(self) -> UNet:
        network = build(self.job.config)
        return network.fill(network.draw(self.asked.seed) if self.job.initial is None else self.job.initial)

    def export_weights(self, module: UNet) -> Weights:
        return {name: weight.detach().numpy().copy() for name, weight in module.weights.items()}

    def export_probes(self, module: UNet) -> NDArray[np.complex64]:
        return self.find_probes().detach().numpy()

    def load(self, checkpoint: Path) -> UNet:
        return build(self.job.config).fill(self.restore(checkpoint)['weights'])

    def restore(self, checkpoint: Path) -> dict[str, Any]:
        with open_sealed(checkpoint):
            state = dict(torch.load(checkpoint, weights_only=True))
            self.change, self.scale = state['probes']
            return state

    def save(self, path: Path, module: UNet, optimizer: torch.optim.Optimizer, progress: tuple[Any, ...]) -> None:
        state = {'weights': {name: weight.detach() for name, weight in module.weights.items()}, 'progress': progress}
        state |= {'probes': [self.change.detach(), self.scale.detach()], 'optimizer': optimizer.state_dict()}
        with write_sealed(path) as temporary:
            torch.save({**state, 'journal': self.journal.state(), 'config': self.job.config.to_json()}, temporary)

    def fit(self, module: UNet) -> None:
        asked, journal, epoch, best, since = self.asked, self.journal, 0, inf, 0
        if self.job.resume:
            state = self.restore(self.last)
            module.fill(state['weights'])
            journal.restore(state['journal'])
            epoch, best, since = state['progress']
        parameters = [*module.weights.values(), self.change, self.scale]
        for parameter in parameters:
            parameter.requires_grad_().grad = torch.zeros_like(parameter)
        decays = ((parameters[:-2], common.WEIGHT_DECAY), ([self.change], 0.0), ([self.scale], 0.0))
        groups = [{'params': group, 'weight_decay': decay} for group, decay in decays]
        optimizer = torch.optim.AdamW(groups, betas=common.BETAS, eps=common.EPSILON)
        if self.job.resume:
            optimizer.load_state_dict(state['optimizer'])
        else:
            self.save(self.last, module, optimizer, (epoch, best, since))
        patience, clock = asked.early_stop_patience or inf, journal.clock
        while epoch < asked.nepochs and since < patience and clock.progress(0.0, asked) < 1:
            losses = []
            for number, step in enumerate(self.steps.draw_epoch(epoch), epoch * self.length + 1):
                loss, patterns = self.find_loss(module, step)
                losses.append((loss.item(), patterns))
                journal.check(loss.item(), epoch + 1)
                (loss / asked.accum_steps).backward()
                if number % asked.accum_steps == 0:
                    torch.nn.utils.clip_grad_norm_(parameters, asked.gradient_clip_val or inf)
                    for group, share in zip(optimizer.param_groups, (1, common.PROBE_RATE, 1), strict=True):
                        group['lr'] = share * self.find_rate(number - asked.accum_steps)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=False)  # the probe's stays 0 where a batch has labels
                journal.record_step(patterns, self.find_progress(number))
                if clock.progress(0.0, asked) >= 1 and number % asked.accum_steps == 0:
                    break
            epoch, since, metrics = epoch + 1, since + 1, {'train_loss': mean(losses)}
            if self.held_out:
                with torch.no_grad():
                    metrics['val_loss'] = mean([self.find_loss(module, step) for step in self.held_out])
                journal.check(metrics['val_loss'], epoch)
            journal.record_epoch(epoch, metrics, learning_rate=self.find_rate(epoch * self.length))
            if self.job.inspect is not None:
                self.job.inspect(module)
            if metrics[self.monitor] < best:
                best, since = metrics[self.monitor], 0
                self.save(self.best, module, optimizer, (epoch, best, since))
            self.save(self.last, module, optimizer, (epoch, best, since))

    def find_progress(self, steps: int) -> float:
        return self.journal.clock.progress(steps / (self.length * self.asked.nepochs), self.asked)

    def find_rate(self, steps: int) -> float:
        return self.asked.learning_rate * common.compute_rate_factor(self.find_progress(steps), self.asked.scheduler)

    def find_probes(self) -> Tensor:
        probes, each = self.probes, (slice(None), None, None, None)
        if self.asked.probe_trainable:
            changed = probes + probes.abs().amax(dim=(1, 2, 3))[each] * torch.view_as_complex(self.change)
            probes = changed * (power(probes).sum(dim=(1, 2)) / power(changed).sum(dim=(1, 2))).sqrt()[each]
        if self.asked.intensity_scale_trainable:
            probes = probes * torch.exp(common.SCALE_LIMIT * torch.tanh(self.scale))[each]
        return probes

    def find_loss(self, network: UNet, step: Step) -> tuple[Tensor, int]:
        """Loss of a step, and its number of patterns."""
        batch = {key: torch.from_numpy(x) for key, x in self.steps.batch(step)._asdict().items() if hasattr(x, 'dtype')}
        o, saturated = network.patches(batch['root4'], batch['backprojection'])
        probe = self.find_probes()[batch['scan']] * batch['dose'].sqrt()[:, None, None, None]
        probe = probe.detach() if 'labels' in batch else probe
        each = probe.repeat_interleave(len(o) // len(probe), 0)
        w = crop(power(each), o.shape[-1])
        loss = self.label_loss(o, batch, each, w) if 'labels' in batch else self.count_loss(o, batch, probe)
        variation = o.diff(dim=1, append=o[:, -1:]).abs() + o.diff(dim=2, append=o[:, :, -1:]).abs()
        loss = loss + self.asked.realspace_weight * average(variation, w)
        return loss + saturated - saturated.detach(), len(o)

    def count_loss(self, o: Tensor, batch: dict[str, Tensor], probe: Tensor) -> Tensor:
        """B26."""
        counts, shifted = batch['counts'], shift(probe[:, None], batch['fractions'][:, :, None])
        windows = assemble(o.unflatten(0, counts.shape[:2]), probe, shifted, batch)
        found = batch['beam'][..., None, None] * diffract(shifted * windows[:, :, None]) + batch['background'][:, None]
        poisson = found - counts - (counts + 0.1) * torch.log((found + 0.1) / (counts + 0.1))
        amplitude = (torch.sqrt(found + 1e-12) - torch.sqrt(counts)).abs() / counts.mean().clamp(min=1e-12).sqrt()
        good = self.good[batch['scan']][:, None].expand_as(counts)
        added = self.probes.abs().amax(dim=(1, 2, 3)).square() * self.change.square().flatten(1).sum(dim=1)
        pull = common.PROBE_PULL * (added / power(self.probes).sum(dim=(1, 2))).mean()  # 0 where it is not trained
        return ((self.asked.nll_weight * poisson + self.asked.mae_weight * amplitude) * good).sum() / good.sum() + pull

    def label_loss(self, o: Tensor, batch: dict[str, Tensor], probe: Tensor, w: Tensor) -> Tensor:
        """B27."""
        inner = (w * batch['labels'] * o.conj()).sum(dim=(1, 2), keepdim=True).detach()
        d = o * torch.exp(1j * inner.angle()) - batch['labels']
        wave = nnf.pad(crop(probe, o.shape[-1]) * d[:, None], ((probe.shape[-1] - o.shape[-1]) // 2,) * 4)
        error = average(d.abs().square() + self.asked.realspace_mae_weight * d.abs(), w)
        return error + self.asked.far_field_weight * (diffract(wave) / (batch['counts'].flatten(0, 1) + 1)).mean()


def mean(losses: list[tuple[Any, int]]) -> float:
    values, patterns = zip(*losses, strict=True)
    return float(np.average(values, weights=patterns))


class PlainTorch(TrainingBackend):
    """PyTorch on the CPU."""

    description = DESCRIPTION

    def devices(self) -> list[str]:
        return ['cpu']

    def draw_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        return build(config).draw(seed)

    def network(self, config: Config, weights: Weights, device: str) -> UNet:
        self.resolve_device(device)
        return build(config).fill(weights)

    @contextmanager
    def runtime(self, config: Config, device: str) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(config.execution.threads or 1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def training(self, job: TrainingJob, device: str) -> PlainTraining:
        return PlainTraining(job, device)


def build(config: Config) -> UNet:
    network: UNet = DESCRIPTION.builder(config.model.architecture)(config)
    return network
