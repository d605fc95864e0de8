"""The network and its weights: clauses B8 and B13 to B22."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..backend import Backend, Network
from ..errors import ModelFileError
from ..physics.forward import total_variation
from ..physics.prepare import Patterns
from . import jobs, oracle

CLOSE = 1e-5  # of the amplitude range


def predict_patches(network: Network, data: Patterns, index: Any = slice(None)) -> NDArray[np.complex64]:
    """Patches (b, n, n) that the network predicts for the patterns at `index`."""
    return network.predict(np.ascontiguousarray(data.root4[index]), np.ascontiguousarray(data.backprojection[index]))


def amplitude_range(patches: NDArray[Any]) -> float:
    """Largest amplitude, the unit of every tolerance."""
    return float(np.abs(patches).max())


class NetworkChecks:
    """Checks of prediction, weights and their layout."""

    @pytest.mark.parametrize(
        ('activation', 'side', 'scale', 'top'),
        [('sigmoid', 32, 0.5, 3.0), ('swish', 48, 2.0, 1.2), ('softplus', 32, 0.5, 1.2), ('relu', 48, 2.0, 1.2)],
    )
    def test_patches_equal_those_of_the_reference(
        self, backend: Backend, activation: str, side: int, scale: float, top: float
    ) -> None:
        """B14, B17, B18, B19, B21, B22, SETTINGS: a NumPy network with the same weights gives the same patches.

        amplitude_max is the largest amplitude that a sigmoid reaches, and no bound for the others.
        """
        config = jobs.make_config(
            backend, model__N=side, model__n_filters_scale=scale, model__amp_activation=activation,
            model__amplitude_max=top,
        )  # fmt: skip
        weights = jobs.draw_test_weights(oracle.shapes(config))
        data = jobs.make_prepared_scan(backend, n=side, positions=9).patterns(np.arange(5))
        patches = predict_patches(backend.network(config, weights, 'cpu'), data)
        expected = oracle.predict_patches(config, weights, data.root4, data.backprojection)
        assert patches.dtype == np.complex64 and patches.shape == (5, side // 2, side // 2)
        assert np.abs(patches - expected).max() < CLOSE * amplitude_range(expected)
        assert np.abs(expected - expected.mean()).max() > 0.1  # or any two networks would agree
        assert (amplitude_range(expected) > top) is (activation != 'sigmoid')

    @pytest.mark.parametrize(('setting', 'size'), [({'probe_big': True}, 36), ({'pad_object': False}, 48)])
    def test_larger_patches_equal_those_of_the_reference(
        self, backend: Backend, setting: dict[str, bool], size: int
    ) -> None:
        """B14, B19, B21, SETTINGS: probe_big and pad_object widen the patch; the NumPy network gives the same."""
        config = jobs.make_config(backend, model__N=48, **{f'model__{name}': on for name, on in setting.items()})
        weights = jobs.draw_test_weights(oracle.shapes(config))
        fresh = backend.draw_weights(config, 0)
        assert {name: values.shape for name, values in fresh.items()} == oracle.shapes(config)
        data = jobs.make_prepared_scan(backend, n=48, positions=9, patch_size=size).patterns(np.arange(5))
        patches = predict_patches(backend.network(config, weights, 'cpu'), data)
        expected = oracle.predict_patches(config, weights, data.root4, data.backprojection)
        assert patches.shape == (5, size, size)
        assert np.abs(patches - expected).max() < CLOSE * amplitude_range(expected)

    def test_smoothing_flattens_patches(self, backend: Backend) -> None:
        """S5, SETTINGS: gaussian_smoothing_sigma is the last step of the network; the wider, the smoother."""
        data = jobs.make_prepared_scan(backend).patterns(np.arange(5))
        sharp = jobs.make_config(backend)
        patches = oracle.predict_patches(
            sharp, jobs.draw_test_weights(oracle.shapes(sharp)), data.root4, data.backprojection
        )
        roughness = [total_variation(patches, np.ones(patches.shape[1:]))]
        for sigma in (1.0, 3.0):
            config = jobs.make_config(backend, model__gaussian_smoothing_sigma=sigma)
            weights = jobs.draw_test_weights(oracle.shapes(config))
            smooth = predict_patches(backend.network(config, weights, 'cpu'), data)
            expected = oracle.predict_patches(config, weights, data.root4, data.backprojection)
            assert smooth.dtype == np.complex64
            assert np.abs(smooth - expected).max() < CLOSE * amplitude_range(expected)
            roughness.append(total_variation(smooth, np.ones(smooth.shape[1:])))
        assert roughness[1] < 0.7 * roughness[0] and roughness[2] < 0.7 * roughness[1]

    @pytest.mark.parametrize('scale', [0.1, 1.0, 2.0])
    def test_weights_have_the_neutral_layout(self, backend: Backend, scale: float) -> None:
        """B18, B21: names, shapes and type, and nothing else; widths follow n_filters_scale and are at least 4."""
        config = jobs.make_config(backend, model__n_filters_scale=scale)
        weights = backend.draw_weights(config, 0)
        assert {name: values.shape for name, values in weights.items()} == oracle.shapes(config)
        assert all(values.dtype == np.float32 and values.flags.c_contiguous for values in weights.values())

    def test_fresh_weights_are_drawn_from_the_seed(self, backend: Backend, conformance_architecture: str) -> None:
        """B16: equal for equal seeds, different otherwise, and near an empty object; NumPy's own state stays."""
        config = jobs.make_config(backend, model__architecture=conformance_architecture)
        state = repr(np.random.get_state())
        one, two, other = (backend.draw_weights(config, seed) for seed in (3, 3, 4))
        assert repr(np.random.get_state()) == state
        assert jobs.largest_difference(one, two) == 0
        kernels = [name for name in one if name.endswith('kernel')]
        assert all(np.abs(one[name] - other[name]).max() > 1e-3 for name in kernels)
        patches = predict_patches(
            backend.network(config, one, 'cpu'), jobs.make_prepared_scan(backend).patterns(np.arange(16))
        )
        assert np.isfinite(patches).all()
        assert 0.7 < np.abs(patches).mean() < 1.4

    @pytest.mark.parametrize('gridsize', [5])
    def test_the_batch_size_changes_no_patch(
        self, backend: Backend, conformance_architecture: str, gridsize: int
    ) -> None:
        """B15, COVERAGE, DENSE: for every batch size to 33 one patch a position, equal to that of a batch of one."""
        config = jobs.make_config(backend, model__architecture=conformance_architecture, model__gridsize=gridsize)
        scan = jobs.make_prepared_scan(backend, positions=36)
        network = backend.network(config, jobs.draw_network_weights(backend, config, gridsize), 'cpu')
        data = scan.patterns(np.arange(len(scan)))
        single = np.concatenate([predict_patches(network, data, index) for index in scan.batches(1)])
        assert len(single) == len(scan)
        for size in range(2, 34):
            batches = list(scan.batches(size))
            patches = np.full_like(single, np.nan)
            for index in batches:
                patches[index] = predict_patches(network, data, index)
            assert sum(map(len, batches)) == len(scan)
            assert np.abs(patches - single).max() < CLOSE * amplitude_range(single), f'batch size {size}'

    def test_a_patch_depends_on_its_pattern_only(self, backend: Backend, conformance_architecture: str) -> None:
        """B8, B15: whatever the order and the other patterns; twice gives equal arrays; what is handed out stays."""
        config = jobs.make_config(backend, model__architecture=conformance_architecture)
        weights = jobs.draw_network_weights(backend, config)
        given = {name: values.copy() for name, values in weights.items()}
        network = backend.network(config, weights, 'cpu')
        data = jobs.make_prepared_scan(backend).patterns(np.arange(24))
        inputs = data.root4.copy(), data.backprojection.copy()
        state = repr(np.random.get_state())
        whole = predict_patches(network, data)
        kept = whole.copy()
        order = np.random.default_rng(0).permutation(24)
        turned = predict_patches(network, data, order)
        assert np.abs(turned - whole[order]).max() < CLOSE * amplitude_range(whole)
        brighter = data._replace(root4=np.where(np.arange(24)[:, None, None] > 3, 5 * data.root4, data.root4))
        assert np.abs(predict_patches(network, brighter)[:4] - whole[:4]).max() < CLOSE * amplitude_range(whole)
        assert np.array_equal(predict_patches(network, data), kept) and np.array_equal(whole, kept)
        assert np.array_equal(data.root4, inputs[0]) and np.array_equal(data.backprojection, inputs[1])
        assert jobs.largest_difference(weights, given) == 0
        assert repr(np.random.get_state()) == state
        assert whole.flags.c_contiguous

    def test_several_threads_may_predict_at_once(self, backend: Backend, conformance_architecture: str) -> None:
        """B14: with the same patches."""
        config = jobs.make_config(backend, model__architecture=conformance_architecture)
        network = backend.network(config, jobs.draw_network_weights(backend, config), 'cpu')
        data = jobs.make_prepared_scan(backend).patterns(np.arange(96))
        index = [np.arange(start, start + 8) for start in range(0, 96, 8)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(partial(predict_patches, network, data), index))
        assert all(np.array_equal(a, predict_patches(network, data, i)) for a, i in zip(found, index, strict=True))

    def test_a_network_keeps_its_weights(self, backend: Backend, conformance_architecture: str) -> None:
        """B8, B13: two networks live side by side, and an array changed by the caller later changes neither."""
        config = jobs.make_config(backend, model__architecture=conformance_architecture)
        data = jobs.make_prepared_scan(backend).patterns(np.arange(3))
        weights = [jobs.draw_network_weights(backend, config, seed) for seed in (0, 1)]
        networks = [backend.network(config, values, 'cpu') for values in weights]
        before = [predict_patches(network, data) for network in networks]
        for values in weights[0].values():
            values[...] = 0
        after = [predict_patches(network, data) for network in networks]
        assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))
        assert np.abs(before[0] - before[1]).max() > 1e-2

    @pytest.mark.parametrize('fault', ['missing', 'superfluous', 'misshapen', 'broadcastable', 'empty'])
    def test_weights_that_do_not_fit_are_refused(
        self, backend: Backend, conformance_architecture: str, fault: str
    ) -> None:
        """B13, BADLOAD: never are they left as drawn, skipped or broadcast; the error names them."""
        config = jobs.make_config(backend, model__architecture=conformance_architecture)
        weights = jobs.draw_network_weights(backend, config)
        name = [name for name in weights if name.endswith('.kernel')][1]
        bad: dict[str, dict[str, NDArray[np.float32]]] = {
            'missing': {key: values for key, values in weights.items() if key != name},
            'superfluous': {**weights, f'{name}_2': weights[name]},
            'misshapen': {**weights, name: weights[name][:2]},
            'broadcastable': {**weights, name: weights[name][..., :1]},
            'empty': {},
        }
        with pytest.raises(ModelFileError, match=re.escape(name)):
            backend.network(config, bad[fault], 'cpu')

    def test_weights_of_another_width_are_refused(self, backend: Backend) -> None:
        """B13: a network is built as its configuration says, not as its weights are."""
        wide = jobs.make_config(backend, model__n_filters_scale=1.0)
        narrow = jobs.draw_test_weights(oracle.shapes(jobs.make_config(backend)))
        with pytest.raises(ModelFileError, match='stem'):
            backend.network(wide, narrow, 'cpu')
