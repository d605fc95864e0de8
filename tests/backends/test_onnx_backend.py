"""The ONNX Runtime backend: what is its own; what every backend must do is in ptychopinn_reconstructor/conformance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs

from ptychopinn_reconstructor.backend import Backend, load_backend
from ptychopinn_reconstructor.conformance.jobs import draw_network_weights, make_config, make_prepared_scan
from ptychopinn_reconstructor.errors import ConfigError, DeviceError
from ptychopinn_reconstructor.io.onnx import encode_graph, encode_model, encode_node

pytestmark = needs('onnx')
prediction = lazy(f'{BACKENDS}.onnx_runtime.prediction')
NETWORKS: list[dict[str, Any]] = [
    {'n_filters_scale': 2.0},
    {'N': 64, 'amp_activation': 'swish', 'probe_big': True},
    {'N': 48, 'amp_activation': 'softplus', 'pad_object': False, 'n_filters_scale': 1.3},
    {'N': 128, 'amp_activation': 'relu', 'gaussian_smoothing_sigma': 1.5},
]


@pytest.fixture(scope='module')
def backend() -> Backend:
    return load_backend('onnx')


@pytest.mark.parametrize('other', [pytest.param(name, marks=needs(name)) for name in ('torch', 'tensorflow')])
@pytest.mark.parametrize('model', NETWORKS)
def test_patches_are_those_of_the_frameworks(backend: Backend, other: str, model: dict[str, Any]) -> None:
    """B17: of each width, size, activation and block, to 1e-5 of the amplitude range."""
    config = make_config(backend, **{f'model__{name}': value for name, value in model.items()})
    side, size = config.model.N or 0, config.model.patch_size
    weights = draw_network_weights(backend, config)
    data = make_prepared_scan(backend, n=side, positions=9, patch_size=size).patterns(np.arange(3))
    found, expected = (
        one.network(config, weights, 'cpu').predict(data.root4, data.backprojection)
        for one in (backend, load_backend(other))
    )
    assert 0 < np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(expected - expected.mean()).max() > 0.1


def test_a_session_takes_the_thread_that_calls_it(backend: Backend) -> None:
    """B14: and makes none of its own, so that `execution.threads` is the number of callers."""
    before = len(os.listdir('/proc/self/task'))
    config = make_config(backend, execution__threads=4)
    network: Any = backend.network(config, draw_network_weights(backend, config), 'cpu')
    data = make_prepared_scan(backend).patterns(np.arange(9))
    network.predict(data.root4, data.backprojection)
    assert len(os.listdir('/proc/self/task')) == before
    options = network.session.get_session_options()
    assert options.intra_op_num_threads == options.inter_op_num_threads == 1


def test_half_precision_is_refused(backend: Backend) -> None:
    """SETTINGS, B29: what has no effect here is no setting."""
    config = make_config(backend).merged({'execution': {'precision': 'bf16-mixed'}})
    with pytest.raises(ConfigError, match=r'precision is bf16-mixed, but the ONNX .* out half precision; set it to 32'):
        backend.network(config, draw_network_weights(backend, config), 'cpu')


def test_gpus_are_reached_by_execution_providers(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    """DEVICE: those that the build of the runtime has, on as many GPUs as there are; in single precision."""
    built = ['TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr('onnxruntime.get_available_providers', lambda: built)
    monkeypatch.setattr(f'{BACKENDS}.onnx_runtime.prediction.count_gpus', lambda: 2)
    assert backend.devices() == ['cpu', 'cuda:0', 'cuda:1', 'tensorrt:0', 'tensorrt:1']
    asked = ('auto', 'GPU', 'cuda:1', 'TensorRT', 'tensorrt:1')
    resolved = ['cuda:0', 'cuda:0', 'cuda:1', 'tensorrt:0', 'tensorrt:1']
    assert [backend.resolve_device(device) for device in asked] == resolved
    with pytest.raises(DeviceError, match='tensorrt:2'):
        backend.resolve_device('tensorrt:2')
    (first, options), *others = prediction.list_providers('tensorrt:1')
    assert first == 'TensorrtExecutionProvider' and options['device_id'] == '1'
    assert others == [('CUDAExecutionProvider', {'device_id': '1', 'use_tf32': '0'}), ('CPUExecutionProvider', {})]
    monkeypatch.setattr('onnxruntime.get_available_providers', lambda: built[1:])
    assert backend.devices() == ['cpu', 'cuda:0', 'cuda:1']


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_provider_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    """DEVICE, B11: never another device in its place."""
    monkeypatch.setattr(type(backend), 'devices', lambda self: ['cpu', 'cuda:0'])
    config = make_config(backend)
    with pytest.raises(DeviceError, match=r"cannot use the device 'cuda:0' .*; choose cpu, or mend"):
        backend.network(config, draw_network_weights(backend, config), 'cuda')


def test_a_graph_that_is_none_is_an_error_of_the_runtime() -> None:
    """On the CPU nothing but a fault of ours can be the reason, so that nothing is hidden."""
    node = encode_node('NoSuchOperator', ['x'], ['y'], {})
    graph = encode_model(encode_graph([node], {}, {'x': ('b',)}, {'y': ('b',)}))
    with pytest.raises(Exception, match='NoSuchOperator'):
        prediction.OnnxNetwork(graph, 'cpu')


def test_the_runtime_tells_nobody_anything(tmp_path: Path) -> None:
    """Its wheels for Linux keep a number of the user in the home folder, by which they send what they are used for."""
    program = (
        'from ptychopinn_reconstructor.backend import load_backend\n'
        'assert load_backend("onnx").devices()[0] == "cpu"\n'
        'assert load_backend("onnx").versions()["onnxruntime"]\n'
    )
    environment = {name: value for name, value in os.environ.items() if name != 'ORT_DISABLE_TELEMETRY'}
    for variable in ('HOME', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME'):
        environment[variable] = str(tmp_path)
    subprocess.run([sys.executable, '-P', '-c', program], check=True, env=environment)
    assert [*tmp_path.rglob('*')] == []
