"""TensorFlow's forward model, losses and assembly against the numpy oracle, and its gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray
from physics_cases import Case, K, N, PhysicsChecks, complex_array

pytestmark = needs('tensorflow')
tf = lazy('tensorflow')
physics = lazy(f'{BACKENDS}.tensorflow_keras.physics')


class TestTensorFlowPhysics(PhysicsChecks):
    """The checks of every backend, and what is TensorFlow's own."""

    physics = physics

    def tensor(self, array: NDArray[Any]) -> Any:
        return tf.constant(array)

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor)

    def gradient(self, function: Callable[[Any], Any], value: NDArray[Any]) -> NDArray[Any]:
        leaf = tf.constant(value)
        with tf.GradientTape() as tape:
            tape.watch(leaf)
            total = function(leaf)
        return np.asarray(tape.gradient(total, leaf))

    @pytest.mark.parametrize('kind', ['float32', 'float64'])
    def test_one_graph_serves_all_numbers_of_regions_and_canvases(self, kind: str) -> None:
        """Traced once with R, K and the canvas unknown, it equals the eager functions, and so do its gradients."""
        complex_kind = {'float32': 'complex64', 'float64': 'complex128'}[kind]

        def loss(patches: Any, probe: Any, fractions: Any, corners: Any, canvas: Any) -> Any:
            shifted = physics.shift_probe(probe, fractions)
            inner = physics.window_index(corners + N // 4, N // 2, canvas[1])
            flat = physics.assemble(patches, probe, shifted, fractions, inner, canvas[0] * canvas[1])
            windows = physics.gather(flat, physics.window_index(corners, N, canvas[1]))
            intensity = physics.measure(physics.propagate(physics.illuminate(shifted, windows)))
            return physics.poisson_loss(intensity, tf.ones_like(intensity), tf.ones_like(intensity))

        def both(patches: Any, *others: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(patches)
                total = loss(patches, *others)
            return total, tape.gradient(total, patches)

        n, spec = N // 2, tf.TensorSpec
        signature = (
            spec((None, None, n, n), complex_kind),
            spec((None, 1, None, N, N), complex_kind),
            spec((None, None, 2), kind),
            spec((None, None, 2), tf.int64),
            spec((2,), tf.int32),
        )
        traced = tf.function(both, input_signature=signature)
        for regions, k, modes, side in ((1, 1, 1, 40), (3, 4, 2, 47)):
            rng = np.random.default_rng(regions)
            arguments = (
                np.exp(0.3 * complex_array(rng, regions, k, n, n)).astype(complex_kind),
                Case(modes).probe[None, None].repeat(regions, 0).astype(complex_kind),
                rng.uniform(-0.5, 0.5, (regions, k, 2)).astype(kind),
                rng.integers(0, side - N, (regions, k, 2)),
                np.array([side, side + 3], dtype=np.int32),
            )
            value, slope = traced(*arguments)
            expected, expected_slope = both(*(tf.constant(a) for a in arguments))
            assert float(value) == pytest.approx(float(expected), rel=1e-5)
            difference = np.linalg.norm(slope - expected_slope) / np.linalg.norm(expected_slope)
            assert difference < (1e-4 if kind == 'float32' else 1e-10)
            assert slope.dtype == complex_kind
        assert traced.experimental_get_tracing_count() == 1

    def test_adjoints_written_by_hand_equal_the_frameworks_own(self) -> None:
        """gather and scatter state their adjoints: the same gradients as tf.gather and unsorted_segment_sum."""
        rng = np.random.default_rng(0)
        side, regions = 20, 2
        corners = tf.constant(rng.integers(0, side - 8, (regions, K, 2)))
        index = physics.window_index(corners, 8, side)
        canvas = tf.constant(complex_array(rng, regions, side * side))
        patches = tf.constant(complex_array(rng, regions, K, 8, 8))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((canvas, patches))
            windows, own_windows = physics.gather(canvas, index), tf.gather(canvas, index, batch_dims=1)
            sums = physics.scatter(patches, index, side * side)
            own_sums = tf.stack(
                [tf.math.unsorted_segment_sum(patches[i], index[i], side * side) for i in range(regions)]
            )
        assert np.array_equal(windows, own_windows)
        assert np.allclose(sums, own_sums, rtol=1e-12)
        upstream = tf.constant(complex_array(rng, regions, K, 8, 8)), tf.constant(complex_array(rng, regions, side**2))
        for found, own, source, weight in (
            (windows, own_windows, canvas, upstream[0]),
            (sums, own_sums, patches, upstream[1]),
        ):
            one, two = (tape.gradient(result, source, output_gradients=weight) for result in (found, own))
            assert np.allclose(one, tf.convert_to_tensor(two), rtol=1e-12)
