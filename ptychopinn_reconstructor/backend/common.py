"""What is the same for every backend: devices, widths, weights, optimizer, schedule, CPU budget, events.

A backend's adapter, network, optimizer and callbacks ask here; see specs/backend_contract.md, sections 3 to 7.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import cos, isfinite, pi
from typing import Any

from ..config import Config, TrainingConfig
from ..errors import ConfigError, DeviceError, ModelFileError, TrainingError, quote
from ..events import Epoch, Log, Progress
from .interface import TrainingJob, Weights

WARM_UP, FLOOR = 0.08, 0.02  # of the training, of the learning rate
BETAS = (0.9, 0.99)  # of AdamW
EPSILON = 1e-8
WEIGHT_DECAY = 0.01  # of the network's weights alone
SCALE_LIMIT = 0.05  # how far intensity_scale_trainable may move the probe's amplitude
PROBE_RATE = 0.1  # learning rate of a trainable probe relative to the network's
PROBE_PULL = 0.01  # loss of a trained probe whose change has the power of the probe itself
SATURATION = 8.0  # of the outputs y of a network, where sigmoid and tanh are flat: 3e-4 of their range is left
SATURATION_PULL = 0.1  # loss of outputs beyond it: this times their mean square distance, whose slope is that of
# twice the limit at most: a network far off would drown in its own pull
LOSS_CHECK_STEPS = 8  # reading a loss waits for the device, so not at every step


def compute_widths(n_filters_scale: float) -> tuple[int, int, int]:
    """Channel widths of the network: (32, 48, 64) at a scale of 2, in proportion otherwise."""
    w1, w2, w3 = (max(4, round(width * n_filters_scale / 2)) for width in (32, 48, 64))
    return w1, w2, w3


def check_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelFileError that names missing, superfluous or ill-shaped weights of a network."""
    for problem, names in (
        ('lack', sorted(shapes.keys() - weights.keys())),
        ('hold the unknown', sorted(weights.keys() - shapes.keys())),
    ):
        if names:
            raise ModelFileError(
                f'The weights {problem} {", ".join(names)}; the model does not fit this network: train anew.'
            )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ModelFileError(
                f'The weights {name} have shape {weights[name].shape} but the network needs {shape}; '
                'the model does not fit its configuration: train anew.'
            )


def choose_device(device: str, there: Sequence[str], gpu: str) -> str:
    """The one of a backend's devices that `device` names, `gpu` being its word for cuda and gpu; 'auto' is the best.

    Raises DeviceError naming those that are there.
    """
    if device == 'auto':
        return there[min(1, len(there) - 1)]
    name = device.lower().replace('cuda', gpu).replace('gpu', gpu)
    name = f'{name}:0' if f'{name}:0' in there else name
    if name not in there:
        raise DeviceError(f'The device {quote(device)} is not there; choose auto or one of: {", ".join(there)}.')
    return name


def check_logger(config: Config) -> None:
    """Raise ConfigError if the package of the chosen logger is not installed."""
    package = config.execution.logger_backend
    if package in ('tensorboard', 'mlflow') and find_spec(package) is None:
        raise ConfigError(
            f'logger_backend is {package} but {package} is not installed; install it with: pip install {package}, '
            'or choose csv.'
        )


class StopRequested(Exception):  # noqa: N818 - a signal, not an error
    """Raised to leave a framework's fit at once; the last checkpoint is unchanged."""


def compute_rate_factor(progress: float, kind: str) -> float:
    """Learning-rate factor at `progress` (0 to 1) of the training: warm-up, then a cosine to 2 % or constant."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 1e-3)
    if kind == 'constant':
        return 1.0
    fraction = min(1.0, (progress - WARM_UP) / (1 - WARM_UP))
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + cos(pi * fraction))


class CpuClock:
    """Clock of the CPU seconds spent in training, including those before a resume."""

    def __init__(self, before: float = 0.0) -> None:
        self.resume_from(before)

    def resume_from(self, seconds: float) -> None:
        """Restart the clock at the CPU seconds that were spent before a resume."""
        self.before, self.start = seconds, time.process_time()

    def seconds(self) -> float:
        """CPU seconds spent in training."""
        return self.before + time.process_time() - self.start

    def progress(self, steps_done: float, training: TrainingConfig) -> float:
        """Completed fraction of the training, by steps or by limited CPU time, whichever is larger."""
        limit = training.max_cpu_seconds
        return max(steps_done, self.seconds() / limit) if limit else steps_done


class Journal:
    """What a training has to remember and to tell: losses, patterns seen, events.

    `state` and `restore` are for checkpoints: plain JSON types.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.losses: list[tuple[int, float]] = []
        self.patterns_seen = 0
        self.clock = CpuClock(job.cpu_seconds)

    def state(self) -> dict[str, Any]:
        """State to save in a checkpoint, plain JSON types."""
        return {
            'losses': [list(pair) for pair in self.losses],
            'patterns_seen': self.patterns_seen,
            'cpu_seconds': self.clock.seconds(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state saved in a checkpoint, and say after which epoch the training goes on."""
        self.losses = [(int(epoch), float(value)) for epoch, value in state['losses']]
        self.patterns_seen = int(state['patterns_seen'])
        self.clock.resume_from(float(state['cpu_seconds']))
        self.job.emit(Log(f'Resuming after epoch {len(self.losses)}.'))

    def record_step(self, patterns: int, progress: float) -> None:
        """Count the patterns of a step and emit progress; raises StopRequested if the job is to stop."""
        self.patterns_seen += patterns
        self.job.emit(Progress('train', progress, 1.0))
        if self.job.should_stop():
            raise StopRequested

    def record_epoch(self, epoch: int, metrics: Mapping[str, float], *, learning_rate: float) -> None:
        """Check, record and emit the losses of an epoch, counted from 1."""
        if 'train_loss' in metrics:
            self.check(metrics['train_loss'], epoch)
            self.losses.append((epoch, metrics['train_loss']))
        self.job.emit(
            Epoch(
                'train',
                epoch,
                self.job.config.training.nepochs,
                train_loss=metrics.get('train_loss'),
                val_loss=metrics.get('val_loss'),
                learning_rate=learning_rate,
                patterns_seen=self.patterns_seen,
                cpu_seconds=self.clock.seconds(),
            )
        )

    def check(self, loss: float, epoch: int) -> None:
        """Raise TrainingError if a loss is not finite."""
        if not isfinite(loss):
            raise TrainingError(
                f'The loss became {loss} in epoch {epoch}; the last good checkpoint is kept in '
                f'{self.job.output_dir / "checkpoints"}: resume with a lower learning_rate, or check the patterns.'
            )

    def summary(self, *, device: str, monitor: str, parameters: int) -> dict[str, Any]:
        """Summary of the training for the model file, plain JSON types."""
        return {
            'device': device,
            'epochs': len(self.losses),
            'patterns_seen': self.patterns_seen,
            'cpu_seconds': round(self.clock.seconds(), 2),
            'monitor': monitor,
            'parameters': parameters,
        }
