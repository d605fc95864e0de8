"""The Keras network by itself: sizes, precision, saving, fresh weights, and how it takes those of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray
from scans import short_config

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError

pytestmark = needs('tensorflow')
keras, tf = lazy('keras'), lazy('tensorflow')
networks, weights_of = (lazy(f'{BACKENDS}.tensorflow_keras.{module}') for module in ('s2d_unet', 'weights'))

RESIDUALS = ('enc1', 'enc2', 'middle', 'dec2', 'dec1')
LAYERS = ['stem', 'down1', 'down2', 'up2', 'up1', 'head', *(f'{r}.conv{i}' for r in RESIDUALS for i in (1, 2))]


def configuration(**changes: Any) -> Config:
    return short_config(**{'model__N': 32, 'model__n_filters_scale': 0.5} | changes)


def inputs(n_pixels: int, patterns: int = 3) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    root4 = rng.uniform(0, 2, (patterns, n_pixels, n_pixels))
    backprojection = rng.normal(size=(patterns, 2, n_pixels // 2, n_pixels // 2))
    return [root4.astype(np.float32), backprojection.astype(np.float32)]


def test_layers_are_those_of_the_contract() -> None:
    """B18, B21: each layer has a kernel and a bias of these names, and there is nothing else."""
    weights = weights_of.to_neutral(networks.build_network(Config()))
    assert set(weights) == {f'{layer}.{kind}' for layer in LAYERS for kind in ('kernel', 'bias')}
    shapes = {name: weights[f'{name}.kernel'].shape for name in ('stem', 'down2', 'up1', 'head')}
    assert shapes == {'stem': (3, 3, 24, 32), 'down2': (3, 3, 48, 64), 'up1': (1, 1, 48, 128), 'head': (3, 3, 32, 8)}


@pytest.mark.parametrize('n_pixels', [16, 48, 64])
def test_one_network_serves_every_multiple_of_16(n_pixels: int) -> None:
    """B14: patches of n = N/2 pixels, near 1 as drawn, whatever else is in the batch."""
    network = networks.build_network(configuration())
    given = inputs(n_pixels)
    amplitude, phase = (part.numpy() for part in network(given))
    assert amplitude.shape == phase.shape == (3, n_pixels // 2, n_pixels // 2)
    assert amplitude.dtype == phase.dtype == np.float32
    assert np.abs(amplitude - 1).max() < 0.5
    alone = network([part[1:2] for part in given])[0].numpy()
    assert np.abs(alone[0] - amplitude[1]).max() < 1e-6


def test_half_precision_changes_patches_by_rounding_only() -> None:
    """B29: `precision` changes the speed; weights, patches and their gradients stay in single precision."""
    full, half = networks.build_network(configuration()), networks.build_network(configuration(), 'mixed_bfloat16')
    weights_of.load_neutral(half, weights_of.to_neutral(full))
    with tf.GradientTape() as tape:
        patch = half(inputs(32))
        total = tf.reduce_sum(patch[0])
    expected = full(inputs(32))
    for found, wanted in zip(patch, expected, strict=True):
        assert found.dtype == tf.float32
        difference = np.abs(found - wanted)
        assert 0 < difference.max() < 0.05 * np.abs(wanted - np.mean(wanted)).max()
    assert all(slope.dtype == tf.float32 for slope in tape.gradient(total, half.trainable_variables))
    assert keras.config.dtype_policy().name == 'float32'


def test_saved_network_opens_in_safe_mode(tmp_path: Path) -> None:
    network = networks.build_network(configuration(model__amp_activation='softplus'))
    network.save(tmp_path / 'network.keras')
    again = keras.saving.load_model(tmp_path / 'network.keras', safe_mode=True)
    for one, two in zip(network(inputs(32)), again(inputs(32)), strict=True):
        assert np.array_equal(one, two)


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    """B16: equal for equal seeds, different otherwise; TensorFlow's global random state is not touched."""
    one, two, other = (weights_of.to_neutral(networks.build_network(configuration(), seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert [name for name in one if np.array_equal(one[name], other[name])] == ['head.bias']
    drawn = []
    for build in (False, True):
        tf.random.set_seed(5)
        if build:
            networks.build_network(configuration(), seed=3)
        drawn.append(float(tf.random.uniform(())))
    assert drawn[0] == drawn[1]


def test_fresh_weights_are_uniform_within_the_fan_in() -> None:
    """B30: as PyTorch draws them; the head a tenth of that, without bias."""
    weights = weights_of.to_neutral(networks.build_network(Config(), seed=1))
    for layer in LAYERS:
        kernel, bias = weights[f'{layer}.kernel'], weights[f'{layer}.bias']
        bound = np.prod(kernel.shape[:3]) ** -0.5
        gain = 0.1 if layer == 'head' else 1.0
        assert 0.98 * gain * bound < np.abs(kernel).max() <= gain * bound * (1 + 1e-6)
        assert kernel.std() == pytest.approx(gain * bound / np.sqrt(3), rel=0.05)
        assert np.abs(bias).max() <= (bound * (1 + 1e-6) if layer != 'head' else 0)
        assert layer == 'head' or np.abs(bias).max() > 0.8 * bound


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'up1.bias': None}, 'lack up1.bias'),
        ({'extra': np.zeros(3, np.float32)}, 'hold the unknown extra'),
        ({'head.bias': np.zeros(7, np.float32)}, r'head.bias have shape \(7,\) but the network needs \(8,\)'),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(change: dict[str, Any], named: str) -> None:
    """B13: missing, superfluous or misshapen weights are a ModelFileError; the others are not loaded either."""
    network = networks.build_network(configuration(), seed=1)
    before = weights_of.to_neutral(network)
    wrong = weights_of.to_neutral(networks.build_network(configuration(), seed=2)) | change
    with pytest.raises(ModelFileError, match=named):
        weights_of.load_neutral(network, {name: values for name, values in wrong.items() if values is not None})
    after = weights_of.to_neutral(network)
    assert all(np.array_equal(before[name], after[name]) for name in before)
