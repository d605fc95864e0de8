"""The learned step: its network in numpy, what it sees, and that the patterns hold it back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from ptychopinn_reconstructor.physics.learned import step as learned_step
from ptychopinn_reconstructor.physics.learned.features import Evidence, describe_canvas, typical_light
from ptychopinn_reconstructor.physics.learned.network import REACH, Network, convolve, fold, unfold
from ptychopinn_reconstructor.physics.learned.step import correct, gather_evidence, take_step
from ptychopinn_reconstructor.physics.prepare import PreparedScan, prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate

WIDTHS = {1: 8, 2: 12, 3: 16}


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
    one = correct(network, canvas, look(scan, canvas))
    other = correct(network, canvas * turn, look(scan, canvas * turn))
    assert np.abs(one).max() > 1e-2
    np.testing.assert_allclose(other, one * turn, atol=2e-4)


def test_tiles_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, shape = np.random.default_rng(5), (250, 331)
    canvas = (1 + 0.2 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))).astype(np.complex64)
    light = rng.uniform(20, 90, shape).astype(np.float32)
    evidence = Evidence(canvas[::-1] * light, light, light / np.float32(50))
    whole = correct(draw_network(), canvas, evidence)
    monkeypatch.setattr(learned_step, 'TILE', 64)
    np.testing.assert_allclose(correct(draw_network(), canvas, evidence), whole, atol=1e-5)


def test_what_the_network_sees_is_mirrored_with_the_canvas(scan: PreparedScan) -> None:
    canvas = _rough(scan)
    seen = look(scan, canvas)
    mirrored = Evidence(seen.direction[:, ::-1], seen.light[:, ::-1], seen.misfit[:, ::-1])
    typical = typical_light(seen.light)
    channels = describe_canvas(canvas, seen, typical)
    np.testing.assert_allclose(describe_canvas(canvas[:, ::-1], mirrored, typical), channels[:, :, ::-1])


def test_at_the_truth_patterns_misfit_as_counting_noise_does(scan: PreparedScan) -> None:
    truth = _truth(scan)
    lit = look(scan, truth).light > 50
    assert look(scan, truth).misfit[lit].mean() == pytest.approx(1, abs=0.03)
    assert look(scan, _rough(scan)).misfit[lit].mean() > 1.5


def test_a_step_against_the_patterns_is_not_taken(scan: PreparedScan) -> None:
    truth = _truth(scan)
    wild = correct(draw_network(scale=8.0), truth, look(scan, truth))
    lit = look(scan, truth).light > 50
    assert np.abs(wild)[lit].mean() > 0.1
    taken = take_step(scan, truth, draw_network(scale=8.0))
    np.testing.assert_array_equal(taken.canvas[lit], truth[lit])
    assert taken.change[lit].max() == 0 and taken.kept[lit].max() == 0


def test_a_step_is_told_by_what_it_changed(scan: PreparedScan) -> None:
    rough, network = _rough(scan), draw_network(scale=0.1)
    whole, half = (take_step(scan, rough, network, strength=strength) for strength in (1.0, 0.5))
    np.testing.assert_allclose(np.abs(whole.canvas - rough), whole.change, atol=1e-6)
    kept = (whole.kept == 1) & (half.kept == 1)
    assert kept.sum() > 500
    np.testing.assert_allclose(half.change[kept], whole.change[kept] / 2, rtol=1e-4, atol=1e-6)


def look(scan: PreparedScan, canvas: NDArray[np.complex64]) -> Evidence:
    return gather_evidence(scan, canvas, scan.probe)


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
