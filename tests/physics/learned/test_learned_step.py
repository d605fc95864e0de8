"""The learned step: its network in numpy, what it sees, and that the patterns hold it back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from ptychopinn_reconstructor.physics.learned.features import Evidence, describe_canvas
from ptychopinn_reconstructor.physics.learned.network import Network, convolve, fold, unfold
from ptychopinn_reconstructor.physics.learned.step import correct, gather_evidence, learned_step
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate

WIDTHS = {1: 8, 2: 12, 3: 16}
REACH = 80  # pixels beyond which nothing of this network's answer depends on


def draw_network(scale: float = 1.0) -> Network:
    """A network with random weights, one block a level."""
    rng = np.random.default_rng(3)
    weights: dict[str, NDArray[np.float32]] = {}

    def add(name: str, *shape: int) -> None:
        weights[f'{name}.weight'] = (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        weights[f'{name}.bias'] = (0.1 * rng.normal(size=shape[0])).astype(np.float32)

    add('head', WIDTHS[1], 36, 3, 3)
    add('tail', 8, WIDTHS[1], 3, 3)
    for level, width in WIDTHS.items():
        for place in ('before', 'after') if level < 3 else ('before',):
            for part in 'ab':
                add(f'{place}{level}.0.{part}', width, width, 3, 3)
    for upper, lower in ((1, 2), (2, 3)):
        add(f'down{lower}', WIDTHS[lower], 4 * WIDTHS[upper])
        add(f'up{upper}', 4 * WIDTHS[upper], WIDTHS[lower])
    weights['tail.weight'] *= scale
    weights['tail.bias'] *= scale
    return Network(weights)


@pytest.fixture(scope='module')
def scan() -> PreparedScan:
    return prepare_scan(simulate(n=32, positions=49, step=6.0, photons=1e4, seed=2))


def test_a_convolution_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.normal(size=size).astype(np.float32) for size in ((3, 9, 13), (4, 3, 3, 3), (4,)))
    expected = [sum(signal.correlate(x[c], kernel[d, c], mode='same') for c in range(3)) + bias[d] for d in range(4)]
    np.testing.assert_allclose(convolve(x, kernel, bias), expected, atol=1e-5)


def test_unfolding_undoes_folding() -> None:
    x = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)
    np.testing.assert_array_equal(unfold(fold(x)), x)
    np.testing.assert_array_equal(fold(x)[:4, 0, 0], [0, 1, 6, 7])


def test_a_larger_canvas_does_not_change_the_answer_far_from_its_rim() -> None:
    x = np.random.default_rng(1).normal(size=(9, 256, 256)).astype(np.float32)
    network = draw_network()
    whole, part = network(x), network(x[:, :192, :192])
    inside = slice(0, 192 - REACH)
    np.testing.assert_allclose(part[:, inside, inside], whole[:, inside, inside], atol=1e-5)
    assert np.abs(part[:, -8:, -8:] - whole[:, 184:192, 184:192]).max() > 1e-3


def test_a_turned_phase_turns_the_correction(scan: PreparedScan) -> None:
    canvas, turn, network = _rough(scan), np.complex64(np.exp(2.1j)), draw_network()
    one = correct(network, canvas, gather_evidence(scan, canvas))
    other = correct(network, canvas * turn, gather_evidence(scan, canvas * turn))
    assert np.abs(one - canvas).max() > 1e-2
    np.testing.assert_allclose(other, one * turn, atol=2e-4)


def test_what_the_network_sees_is_mirrored_with_the_canvas(scan: PreparedScan) -> None:
    canvas = _rough(scan)
    seen = gather_evidence(scan, canvas)
    mirrored = Evidence(*(np.asarray(image)[:, ::-1] for image in seen[:3]), seen.per_pattern)
    np.testing.assert_allclose(describe_canvas(canvas[:, ::-1], mirrored), describe_canvas(canvas, seen)[:, :, ::-1])


def test_at_the_truth_patterns_misfit_as_counting_noise_does(scan: PreparedScan) -> None:
    truth = _truth(scan)
    assert gather_evidence(scan, truth).per_pattern.mean() == pytest.approx(1, abs=0.03)
    assert gather_evidence(scan, _rough(scan)).per_pattern.mean() > 1.5


def test_a_step_against_the_patterns_is_not_taken(scan: PreparedScan) -> None:
    truth = _truth(scan)
    taken = learned_step(scan, truth, draw_network(scale=8.0))
    wild = correct(draw_network(scale=8.0), truth, gather_evidence(scan, truth))
    lit = gather_evidence(scan, truth).light > 50
    assert np.abs(wild - truth)[lit].mean() > 0.1
    np.testing.assert_array_equal(taken[lit], truth[lit])


def _truth(scan: PreparedScan) -> NDArray[np.complex64]:
    assert scan.scan.object is not None
    row, col = (-round(value) for value in scan.layout.origin)
    height, width = scan.layout.shape
    return np.asarray(scan.scan.object[row : row + height, col : col + width])


def _rough(scan: PreparedScan) -> NDArray[np.complex64]:
    """The truth, and an error that the patterns see."""
    rng = np.random.default_rng(4)
    truth = _truth(scan)
    return np.asarray(truth + 0.2 * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)), np.complex64)
