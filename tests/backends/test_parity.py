"""PyTorch and TensorFlow against each other: equal weights give equal patches, losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray
from scans import short_config, small_scan

from ptychopinn_reconstructor.backend.batches import RegionBatch, Step, count_region_patterns, load_region_batch
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.physics.grouping import epoch_regions
from ptychopinn_reconstructor.physics.prepare import prepare_scan

pytestmark = needs('torch', 'tensorflow')
torch, tf = lazy('torch'), lazy('tensorflow')
torch_network, torch_physics, torch_weights = (
    lazy(f'{BACKENDS}.torch_lightning.{module}') for module in ('s2d_unet', 'physics', 'weights')
)
keras_network, keras_physics, keras_weights = (
    lazy(f'{BACKENDS}.tensorflow_keras.{module}') for module in ('s2d_unet', 'physics', 'weights')
)

Weights = dict[str, NDArray[np.float32]]
KINK = 1e-6  # some ten times the rounding of a convolution in single precision
LEAKY_RELUS = 13


class Data(NamedTuple):
    """A step's batch, the probe of its regions (R, 1, modes, N, N) and the good pixels (R, K, N, N)."""

    batch: RegionBatch
    probe: NDArray[np.complex64]
    good: NDArray[np.float32]


class Outcome(NamedTuple):
    """A loss and its gradient with respect to each weight, in the neutral layout."""

    loss: float
    gradients: Weights


def configuration(n_pixels: int, **changes: Any) -> Config:
    return short_config(model__N=n_pixels, data__neighbor_count=0, **changes)


@cache
def data(n_pixels: int, gridsize: int, patch_size: int | None = None) -> Data:
    """Four patterns of a simulated scan with three modes: regions of gridsize^2 each."""
    simulated = small_scan(n=n_pixels, positions=49, step=n_pixels / 12, modes=3)
    scan = prepare_scan(simulated, stride=16, patch_size=patch_size)
    k = count_region_patterns(configuration(n_pixels, model__gridsize=gridsize))
    everything = np.arange(len(scan), dtype=np.int64)
    regions = epoch_regions(scan.positions, everything, k, n_groups=4 // k, seed=1, epoch=0)
    batch = load_region_batch(scan, Step(0, regions), supervised=True)
    good = np.random.default_rng(2).uniform(size=(1, 1, n_pixels, n_pixels)) > 0.05
    probe = np.repeat(scan.probe[None, None], len(regions), axis=0)
    return Data(batch, probe, np.broadcast_to(good, batch.counts.shape).astype(np.float32))


def trained_like(config: Config, seed: int = 3) -> Weights:
    """Weights of a network that does something: those freshly drawn with a head ten times as strong."""
    weights: Weights = keras_weights.to_neutral(keras_network.build_network(config, seed=seed))
    rng = np.random.default_rng(seed + 1)
    bias = rng.uniform(-0.2, 0.2, weights['head.bias'].shape).astype(np.float32)
    return weights | {'head.kernel': 10 * weights['head.kernel'], 'head.bias': bias}


def smooth_there(config: Config, batch: RegionBatch) -> Weights:
    """Such weights that no leaky ReLU of the network has an input of zero but for rounding.

    At its kink the gradient has two values. Which of them a backend takes is rounding's choice, and changes with the
    processor: one such unit among a million has made 1.6e-4 of a bias's gradient, all other weights agreeing to 1e-6.
    """
    draws = (trained_like(config, seed) for seed in range(3, 103))
    return next(weights for weights in draws if nearest_to_a_kink(config, weights, batch) > KINK)


def nearest_to_a_kink(config: Config, weights: Weights, batch: RegionBatch) -> float:
    """The smallest input of a leaky ReLU, in units of the root mean square of its layer."""
    network, leaky_relu = torch_network.build_network(config), torch.nn.functional.leaky_relu
    torch_weights.load_neutral(network, weights)
    smallest: list[float] = []

    def watched(x: Any, slope: float) -> Any:
        smallest.append(float(x.abs().min() / x.square().mean().sqrt()))
        return leaky_relu(x, slope)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, 'leaky_relu', watched)
        network(torch.from_numpy(batch.root4), torch.from_numpy(batch.backprojection))
    assert len(smallest) == LEAKY_RELUS
    return min(smallest)


def likelihood(physics: Any, patches: Any, counts: Any, corners: Any, fractions: Any, probe: Any, good: Any) -> Any:
    """The pinn loss of complex patches (R, K, n, n) as both backends take it, both terms."""
    n, n_pixels = patches.shape[-1], counts.shape[-1]
    height, width = np.asarray(corners).max(axis=(0, 1)) + n_pixels
    shifted = physics.shift_probe(probe, fractions)
    inner = physics.window_index(corners + (n_pixels - n) // 2, n, int(width))
    canvas = physics.assemble(patches, probe, shifted, fractions, inner, int(height * width))
    windows = physics.gather(canvas, physics.window_index(corners, n_pixels, int(width)))
    intensity = physics.measure(physics.propagate(physics.illuminate(shifted, windows)))
    absolute = physics.amplitude_loss(intensity, counts, good) / float(np.sqrt(np.asarray(counts).mean()))
    return physics.poisson_loss(intensity, counts, good) + absolute


def test_beam_and_background_are_part_of_what_is_expected() -> None:
    """s M + b in both backends is the numpy reference's `detect`, which the engine is pinned to."""
    rng, index = np.random.default_rng(0), np.arange(6)
    prepared = prepare_scan(small_scan())
    side = prepared.n_pixels
    background = rng.uniform(0, 3, (side, side)).astype(np.float32)
    intensity = rng.uniform(0.5, 1.5, len(prepared)).astype(np.float32)
    known = replace(prepared, background=background, intensity=intensity)
    batch = load_region_batch(known, Step(0, index.reshape(2, 3)), supervised=False)
    diffracted = rng.uniform(0, 9, (6, side, side)).astype(np.float32)
    wanted = known.detect(diffracted, index).reshape(2, 3, side, side)
    given = diffracted.reshape(2, 3, side, side), batch.beam, batch.background
    in_torch = torch_physics.detect(*map(torch.from_numpy, given)).numpy()
    in_keras = np.asarray(keras_physics.detect(*map(tf.constant, given)))
    assert np.abs(in_torch - wanted).max() < 1e-5 and np.abs(in_keras - wanted).max() < 1e-5


def supervised(physics: Any, patches: Any, counts: Any, labels: Any, probe: Any) -> Any:
    """The supervised loss of complex patches (b, n, n), both terms."""
    return physics.exit_wave_loss(patches, labels, probe) + physics.far_field_loss(patches, labels, probe, counts)


def arguments(given: Data, kind: str) -> dict[str, NDArray[Any]]:
    """What a loss needs beside the patches."""
    batch = given.batch
    if kind == 'pinn':
        return {
            'counts': batch.counts,
            'corners': batch.corners,
            'fractions': batch.fractions,
            'probe': given.probe,
            'good': given.good,
        }
    assert batch.labels is not None
    k = batch.counts.shape[1]
    counts = batch.counts.reshape(-1, *batch.counts.shape[2:])
    return {'counts': counts, 'labels': batch.labels, 'probe': np.repeat(given.probe[:, 0], k, axis=0)}


def torch_outcome(config: Config, weights: Weights, given: Data, kind: str, double: bool = False) -> Outcome:
    """Loss and gradients by PyTorch, in double precision where asked."""
    network = torch_network.build_network(config)
    torch_weights.load_neutral(network, weights)

    def tensor(array: NDArray[Any]) -> Any:
        values = torch.from_numpy(np.array(array))
        if not double or values.dtype == torch.int64:
            return values
        return values.to(torch.complex128 if values.is_complex() else torch.float64)

    if double:
        network = network.double()
    amplitude, phase = network(tensor(given.batch.root4), tensor(given.batch.backprojection))
    patches = torch.polar(amplitude, phase)
    others = {name: tensor(value) for name, value in arguments(given, kind).items()}
    if kind == 'pinn':
        loss = likelihood(torch_physics, patches.view(*given.batch.counts.shape[:2], *patches.shape[1:]), **others)
    else:
        loss = supervised(torch_physics, patches, **others)
    loss.backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.data = parameter.grad
    return Outcome(float(loss.detach()), torch_weights.to_neutral(network))


def keras_outcome(config: Config, weights: Weights, given: Data, kind: str) -> Outcome:
    """Loss and gradients by TensorFlow."""
    network = keras_network.build_network(config)
    keras_weights.load_neutral(network, weights)
    others = {name: tf.constant(value) for name, value in arguments(given, kind).items()}
    with tf.GradientTape() as tape:
        patches = keras_physics.polar(*network([given.batch.root4, given.batch.backprojection]))
        if kind == 'pinn':
            shape = (*given.batch.counts.shape[:2], *patches.shape[1:])
            loss = likelihood(keras_physics, tf.reshape(patches, shape), **others)
        else:
            loss = supervised(keras_physics, patches, **others)
    gradients = tape.gradient(loss, network.trainable_variables)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        variable.assign(gradient)
    return Outcome(float(loss), keras_weights.to_neutral(network))


def differences(one: Outcome, two: Outcome) -> dict[str, float]:
    """Norm of the difference of each weight array's gradient over the norm of it."""
    pairs = {name: (one.gradients[name], two.gradients[name]) for name in two.gradients}
    return {name: float(np.linalg.norm(a - b) / np.linalg.norm(b)) for name, (a, b) in pairs.items()}


@pytest.mark.parametrize(('n_pixels', 'settings'), [(64, {}), (128, {'pad_object': False})])
def test_equal_weights_give_equal_patches(n_pixels: int, settings: dict[str, Any]) -> None:
    """B17: object patches differ by at most 1e-5 of the amplitude range, with the defaults and with a swollen head."""
    config = configuration(n_pixels, **{f'model__{name}': value for name, value in settings.items()})
    weights, batch = trained_like(config), data(n_pixels, 1, config.model.patch_size).batch
    one, two = torch_network.build_network(config), keras_network.build_network(config)
    torch_weights.load_neutral(one, weights)
    keras_weights.load_neutral(two, weights)
    with torch.no_grad():
        amplitude, phase = one(torch.from_numpy(batch.root4), torch.from_numpy(batch.backprojection))
    expected = torch.polar(amplitude, phase).numpy()
    found = keras_physics.polar(*two([batch.root4, batch.backprojection])).numpy()
    extent = float(amplitude.max() - amplitude.min())
    assert extent > 0.05  # or else the tolerance would mean something else
    assert float(phase.std()) > 0.1
    assert np.abs(found - expected).max() <= 1e-5 * extent


@pytest.mark.parametrize(
    ('n_pixels', 'kind', 'gridsize', 'big'),
    [
        (64, 'pinn', 1, False),
        (64, 'pinn', 2, True),
        (64, 'supervised', 1, False),
        pytest.param(64, 'supervised', 1, True, marks=pytest.mark.slow),
        pytest.param(128, 'pinn', 2, False, marks=pytest.mark.slow),
    ],
)
def test_both_are_near_the_gradient_in_double_precision(n_pixels: int, kind: str, gridsize: int, big: bool) -> None:
    """The loss of a batch to 1e-5 relative, the gradient of each weight array to 1e-4; three modes."""
    config = configuration(n_pixels, model__gridsize=gridsize, model__probe_big=big)
    given = data(n_pixels, gridsize, config.model.patch_size)
    weights = smooth_there(config, given.batch)
    exact = torch_outcome(config, weights, given, kind, double=True)
    for outcome in (keras_outcome(config, weights, given, kind), torch_outcome(config, weights, given, kind)):
        assert outcome.loss == pytest.approx(exact.loss, rel=1e-5)
        found = differences(outcome, exact)
        assert max(found.values()) <= 1e-4, found


def test_weights_pass_through_both_backends_unchanged() -> None:
    """B20: what was read is written bit by bit, whichever backend reads and writes."""
    config = configuration(64, model__n_filters_scale=0.5)
    weights = trained_like(config)
    one, two = torch_network.build_network(config), keras_network.build_network(config)
    torch_weights.load_neutral(one, weights)
    keras_weights.load_neutral(two, torch_weights.to_neutral(one))
    back = keras_weights.to_neutral(two)
    assert back.keys() == weights.keys()
    for name, values in weights.items():
        assert back[name].dtype == np.float32
        assert np.array_equal(back[name], values), name


def changed(weights: Weights, change: Callable[[Weights], object]) -> Weights:
    copy = dict(weights)
    change(copy)
    return copy


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (lambda w: w.pop('up1.bias'), 'lack up1.bias'),
        (lambda w: w.update(extra=np.zeros(3, np.float32)), 'hold the unknown extra'),
        (lambda w: w.update({'enc1.conv1.kernel': np.zeros((3, 3, 4, 32), np.float32)}), r'enc1.conv1.kernel.*4, 32'),
    ],
)
def test_both_refuse_weights_that_do_not_fit_in_the_same_words(change: Callable[[Weights], object], named: str) -> None:
    """B13: missing, superfluous and misshapen weights are named, before anything is changed."""
    config = configuration(64)
    wrong = changed(trained_like(config), change)
    messages = []
    for network, module in (
        (torch_network.build_network(config), torch_weights),
        (keras_network.build_network(config), keras_weights),
    ):
        before = module.to_neutral(network)
        with pytest.raises(ModelFileError, match=named) as caught:
            module.load_neutral(network, wrong)
        messages.append(str(caught.value))
        after = module.to_neutral(network)
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert messages[0] == messages[1]


def test_the_pull_of_a_trained_probe_is_the_power_of_its_change() -> None:
    """In units of the probe's own, averaged over two scans; NumPy says how much."""
    from ptychopinn_reconstructor.backend.common import PROBE_RATE
    from ptychopinn_reconstructor.backends.tensorflow_keras.model import PtychoPINN as KerasModel
    from ptychopinn_reconstructor.backends.torch_lightning.module import PtychoPINN as TorchModel

    config = configuration(32, training__probe_trainable=True)
    rng, shape = np.random.default_rng(5), (2, 3, 32, 32)
    probes = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    change = rng.normal(size=(*shape, 2)).astype(np.float32)
    peak = np.abs(probes).max(axis=(1, 2, 3))
    expected = np.mean(peak**2 * (change**2).sum(axis=(1, 2, 3, 4)) / (np.abs(probes) ** 2).sum(axis=(1, 2, 3)))
    good = np.ones((2, 32, 32), dtype=np.float32)
    one, two = TorchModel(config.to_json(), list(shape)), KerasModel(config.to_json(), list(shape))
    one.set_probes(torch.from_numpy(probes), torch.from_numpy(good))
    two.set_probes(probes, good)
    assert float(one._probe_change_power(torch.from_numpy(change))) == pytest.approx(expected, rel=1e-5)
    assert float(two._probe_change_power(tf.constant(change / PROBE_RATE))) == pytest.approx(expected, rel=1e-5)
