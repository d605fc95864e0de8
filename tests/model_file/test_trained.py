"""What a model file says of its training and of its arrays, and which network may go on from it."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import N, forge, parts
from scans import short_config, small_scan

from ptychopinn_reconstructor import __version__
from ptychopinn_reconstructor.backend import TrainedModel, load_backend
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError, TrainingError
from ptychopinn_reconstructor.model_file import format as model_format
from ptychopinn_reconstructor.model_file import manifest as model_manifest
from ptychopinn_reconstructor.model_file.opening import inspect_model, open_model, open_start_model
from ptychopinn_reconstructor.model_file.trained import (
    collect_versions,
    describe_training,
    set_single_precision,
    write_trained_model,
)
from ptychopinn_reconstructor.physics.prepare import prepare_scan

SUMMARY = {
    'epochs': 2, 'patterns_seen': 18, 'cpu_seconds': 1.5, 'device': 'cpu', 'monitor': 'val_loss', 'not of ours': 7,
}  # fmt: skip


def trained(**changes: Any) -> TrainedModel:
    summary = changes.pop('summary', SUMMARY)
    return TrainedModel({}, (), ((1, np.float64(0.5)), (2, np.float64(0.25))), summary, **changes)


def test_a_training_is_described_by_its_summary() -> None:
    entry = describe_training(trained(interrupted=True), 9, ['a.npz', 'b.npz'])
    assert entry.model_dump() == {
        'scans': ('a.npz', 'b.npz'), 'patterns': 9, 'epochs': 2, 'patterns_seen': 18, 'cpu_seconds': 1.5,
        'losses': ((1, 0.5), (2, 0.25)), 'device': 'cpu', 'monitor': 'val_loss', 'interrupted': True,
        'start_residual': None, 'residual': None, 'start_kept': None,
    }  # fmt: skip
    assert not describe_training(trained(), 9, []).interrupted


def test_residuals_of_a_fine_tuning_are_numbers_or_unknown() -> None:
    known = {'start_residual': 1.5, 'residual': 0.5, 'start_kept': True}
    entry = describe_training(trained(summary=SUMMARY | known), 9, [])
    assert (entry.start_residual, entry.residual, entry.start_kept) == (1.5, 0.5, True)
    for value in (np.nan, np.inf):
        assert describe_training(trained(summary=SUMMARY | known | {'residual': value}), 9, []).residual is None


def test_versions_are_those_of_this_environment() -> None:
    expected = {'ptychopinn-reconstructor': __version__, 'python': platform.python_version(), 'numpy': np.__version__}
    assert collect_versions() == expected


def test_a_self_test_is_in_single_precision() -> None:
    config = Config().merged({'execution': {'precision': 'bf16-mixed'}, 'model': {'N': N}})
    single = set_single_precision(config)
    assert single.execution.precision == '32' and single.model == config.model


def test_the_digest_is_of_the_manifest_and_of_names_types_shapes_and_bytes() -> None:
    """Computed here once more, by what the specification says."""
    arrays = {'b': np.arange(6, dtype='<f4').reshape(2, 3), 'a': np.ones(1, '<f4')}
    text = '{"a":"\\u00b5","sha":{"x":1,"y":[2.5]}}'
    expected = hashlib.sha256(text.encode())
    for name in 'ab':
        expected.update(f'\n["{name}", "F32", {json.dumps([*arrays[name].shape])}]\n'.encode() + arrays[name].tobytes())
    manifest = {'sha256': 'anything', 'sha': {'y': [2.5], 'x': 1}, 'a': 'µ'}
    assert model_format.compute_digest(manifest, arrays) == expected.hexdigest()


def test_every_part_of_an_array_is_under_the_digest() -> None:
    one, two = np.arange(6, dtype='<f4').reshape(2, 3), np.zeros((2, 3), '<f4')
    both = {'a': one, 'b': two}
    others = [
        both | {'a': one.reshape(3, 2)},
        both | {'a': one + 1},
        {'a': two, 'b': one},
        {'a': one, 'c': two},
        {'a': one},
    ]
    digests = {model_format.compute_digest({}, arrays) for arrays in (both, *others)}
    assert len(digests) == 6
    assert model_format.compute_digest({}, {'a': one.copy(order='F')}) == model_format.compute_digest({}, {'a': one})


def test_the_limits_are_those_of_the_specification() -> None:
    assert (model_format.MAX_FILE, model_format.MAX_HEADER, model_format.MAX_TENSORS) == (2**32, 2**24, 10_000)
    assert (model_manifest.FORMAT, model_manifest.FORMAT_VERSION) == ('ptychopinn-model', 2)


def test_axes_and_units_of_input_and_output(model_file: Path) -> None:
    said = inspect_model(model_file).to_json()['manifest']
    axes = ['pattern', 'row', 'column']
    described = said['input'].pop('description'), said['output'].pop('description')
    assert all(described)
    assert said['input'] == {
        'name': 'counts',
        'shape': [None, N, N],
        'dtype': 'float32',
        'axes': axes,
        'unit': 'counts',
    }
    patch = parts()['self_test'].patches.shape[1]
    shape = [None, patch, patch]
    assert said['output'] == {'name': 'patches', 'shape': shape, 'dtype': 'complex64', 'axes': axes, 'unit': '1'}


def test_a_summary_names_every_array(model_file: Path) -> None:
    summary = inspect_model(model_file).to_json()
    given = parts()
    weights = {f'weights/{name}': [*weight.shape] for name, weight in given['weights'].items()}
    test = {'selftest/counts': [3, N, N], 'selftest/patches': [*given['self_test'].patches.shape]}
    assert summary['arrays'] == weights | test | {'probe': [2, N, N]}
    assert (summary['path'], summary['size']) == (str(model_file), model_file.stat().st_size)


def asked(model_file: Path, **changes: Any) -> Config:
    return open_model(model_file).config.merged({'model': changes})


def test_a_training_goes_on_from_a_model_of_its_own_network(model_file: Path) -> None:
    assert open_start_model(model_file, asked(model_file)).weights.keys() == parts()['weights'].keys()
    longer = asked(model_file).merged({'training': {'nepochs': 7}})
    assert open_start_model(model_file, longer).config.training.nepochs != 7


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'N': 32}, f'has N = {N} but 32 is asked for; set N to {N}'),
        ({'n_filters_scale': 0.5}, 'has n_filters_scale = 2.0 but 0.5'),
        ({'amplitude_max': 3.5}, 'has amplitude_max'),
        ({'probe_big': True}, 'has probe_big = False but True'),
    ],
)
def test_a_training_of_another_network_is_refused(model_file: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        open_start_model(model_file, asked(model_file, **changes))


@pytest.mark.parametrize('name', ['name', 'N', 'amplitude_max', 'pad_object'])
def test_a_manifest_that_contradicts_itself_is_refused(model_file: Path, name: str) -> None:
    other = {'name': 'another', 'N': 32, 'amplitude_max': 3.5, 'pad_object': False}[name]

    def contradict(manifest: dict[str, Any]) -> None:
        manifest['architecture'][name] = not manifest['architecture'][name] if name == 'pad_object' else other

    with pytest.raises(ModelFileError, match=rf'architecture\.{name} is .* but config\.model\.'):
        open_model(forge(model_file, contradict))


def test_a_model_that_cannot_be_read_is_told(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'open', refuse)
    with pytest.raises(ModelFileError, match=r'cannot be read \(.*Permission denied\); check its permissions'):
        open_model(model_file)


def test_a_network_that_gives_zero_is_no_model(tmp_path: Path) -> None:
    """As one with a relu at its end may, which has no slope below."""
    config = short_config(model__amp_activation='relu', model__N=32)
    backend = load_backend(config.execution.backend)
    weights = backend.draw_weights(config, 0)
    weights['head.bias'] = np.full_like(weights['head.bias'], -60.0)
    prepared = prepare_scan(small_scan(), stride=backend.stride)
    trained = TrainedModel(weights, (prepared.probe,), ((1, 0.5),), {'epochs': 1})
    said = r'After 1 epoch.* the network gives zero .* lower training\.learning_rate \(it was 0\.002\)'
    with pytest.raises(TrainingError, match=said):
        write_trained_model(tmp_path / 'model.safetensors', backend, config, prepared, trained)
    assert not any(tmp_path.iterdir())
