"""What each backend makes of gradients (B28), against AdamW in NumPy: rates, decay, clipping, and what is exempt."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray
from scans import short_config

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backend.common import Journal, compute_rate_factor
from ptychopinn_reconstructor.config import Config

torch, tf, keras = lazy('torch'), lazy('tensorflow'), lazy('keras')
callbacks = lazy(f'{BACKENDS}.tensorflow_keras.callbacks')
module, model = lazy(f'{BACKENDS}.torch_lightning.module'), lazy(f'{BACKENDS}.tensorflow_keras.model')

Real = NDArray[np.float64]
SHAPE = (1, 1, 32, 32)
PROBE, GOOD = np.ones(SHAPE, dtype=np.complex64), np.ones((1, 32, 32), dtype=np.float32)
RATES = [0.1 * compute_rate_factor(step / 10, 'cosine') for step in range(5)]


def configuration(**changes: Any) -> Config:
    trained = {'training__probe_trainable': True, 'training__intensity_scale_trainable': True}
    return short_config(
        model__N=32, model__n_filters_scale=0.1, training__learning_rate=0.1, training__scheduler='cosine',
        **trained, **changes,
    )  # fmt: skip


def gradients_of(shapes: list[tuple[int, ...]]) -> list[list[Real]]:
    """Some for every step and array, the first of each near AdamW's epsilon."""
    rng = np.random.default_rng(0)
    found = [[rng.normal(size=shape) for shape in shapes] for _ in RATES]
    for gradients in found:
        for gradient in gradients:
            gradient.flat[0] *= 1e-7
    return found


def adamw(values: Real, gradients: list[Real], *, decay: float, rate: float, corrected: bool) -> Real:
    """As published, betas (0.9, 0.99), epsilon 1e-8 beside the second moment, which is `corrected` or as it is."""
    m = v = np.zeros_like(values)
    for step, (gradient, at) in enumerate(zip(gradients, RATES, strict=True), 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        values = values * (1 - rate * at * decay)
        beside = 1e-8 if corrected else 1e-8 / np.sqrt(1 - 0.99**step)
        values = values - rate * at * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + beside)
    return values


def compare(found: Real, start: Real, gradients: list[Real], name: str, *, corrected: bool) -> None:
    """The network's weights decay; the probe learns at a tenth of the rate, and like its scale does not decay."""
    exempt, rate = name in ('probe_change', 'log_scale'), 0.1 if name == 'probe_change' else 1.0
    decay = 0.0 if exempt else 0.01
    expected = adamw(start.astype(np.float64), gradients, decay=decay, rate=rate, corrected=corrected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6, err_msg=name)


@needs('torch')
def test_pytorch_steps_as_adamw_does() -> None:
    """Lightning clips before it steps, which conformance tests."""
    found = module.PtychoPINN(configuration().to_json(), list(SHAPE))
    found.set_probes(torch.from_numpy(PROBE), torch.from_numpy(GOOD))
    found._trainer = SimpleNamespace(estimated_stepping_batches=10)
    made = found.configure_optimizers()
    parameters = dict(found.named_parameters())
    start = {name: value.detach().numpy().copy() for name, value in parameters.items()}
    gradients = gradients_of([value.shape for value in start.values()])
    for step in gradients:
        for parameter, gradient in zip(parameters.values(), step, strict=True):
            parameter.grad = torch.empty_like(parameter)  # in the same memory order, which the kernel expects
            parameter.grad.copy_(torch.from_numpy(gradient))
        made['optimizer'].step()
        made['lr_scheduler']['scheduler'].step()
    for number, (name, parameter) in enumerate(parameters.items()):
        compare(parameter.detach().numpy(), start[name], [step[number] for step in gradients], name, corrected=True)


@needs('tensorflow')
def test_keras_steps_as_adamw_does() -> None:
    """Gradients clipped by their common norm; the probe's variable is in units of its rate."""
    found = model.PtychoPINN(configuration(training__gradient_clip_val=2.0).to_json(), list(SHAPE))
    found.set_probes(PROBE, GOOD)
    found.prepare()
    variables = {v.path.removeprefix(f'{found.name}/'): v for v in found.trainable_variables}
    units = [0.1 if name == 'probe_change' else 1.0 for name in variables]
    start = [unit * v.numpy() for unit, v in zip(units, variables.values(), strict=True)]
    gradients = gradients_of([value.shape for value in start])
    for rate, step in zip(RATES, gradients, strict=True):
        slopes = [tf.constant(unit * gradient, tf.float32) for unit, gradient in zip(units, step, strict=True)]
        found.loss_of = lambda _, slopes=slopes: tf.add_n(
            [tf.reduce_sum(slope * v.value) for slope, v in zip(slopes, variables.values(), strict=True)]
        )
        found.optimizer.learning_rate = rate
        found.train_step(SimpleNamespace(counts=tf.zeros((1, *SHAPE[1:]))))
    norms = [np.sqrt(sum((gradient**2).sum() for gradient in step)) for step in gradients]
    assert min(norms) > 2
    for number, (name, v) in enumerate(variables.items()):
        clipped = [2 / norm * step[number] for norm, step in zip(norms, gradients, strict=True)]
        compare(units[number] * v.numpy(), start[number], clipped, name, corrected=False)


@needs('tensorflow')
def test_keras_is_given_the_rate_of_every_step() -> None:
    """B28: by the number of steps, those of earlier epochs included, in groups of accum_steps; or constant."""
    trained = {'training__nepochs': 4, 'training__accum_steps': 2}
    journal = Journal(TrainingJob((), (), configuration(**trained), Path()))
    watch = callbacks.Watch(journal, 'cpu', steps=6, patterns_of_step=16)
    found = keras.Sequential([keras.layers.Dense(1)])
    found.compile(optimizer=keras.optimizers.AdamW())
    watch.set_model(found)
    for watch.epoch in (0, 2):
        for batch in range(6):
            watch.on_train_batch_begin(batch)
            done = (6 * watch.epoch + batch) // 2 * 2 / 24
            assert float(found.optimizer.learning_rate) == pytest.approx(
                0.1 * compute_rate_factor(done, 'cosine'), rel=1e-6
            )
    watch.training = watch.training.model_copy(update={'scheduler': 'constant'})
    assert [watch.learning_rate(batch) for batch in (0, 5)] == [pytest.approx(0.1)] * 2
