"""The model file: what is written is read again, whatever else is refused (specs/checkpoint_format.md)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from model_files import MODES, N, description, parts, predict
from numpy.typing import NDArray

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError, OutputError, VerificationError
from ptychopinn_reconstructor.model_file.format import MAX_FILE, MAX_HEADER, canonical, decode, encode
from ptychopinn_reconstructor.model_file.opening import Model, inspect_model, open_model
from ptychopinn_reconstructor.model_file.replaying import replay
from ptychopinn_reconstructor.model_file.self_test import SelfTest
from ptychopinn_reconstructor.model_file.writing import write_model

FOREIGN = {'torch', 'lightning', 'tensorflow', 'keras', 'matplotlib', 'scipy', 'h5py', 'skimage', 'PyQt5', 'ptychodus'}
ARRAYS = {'probe/real', 'probe/imag', 'selftest/counts', 'selftest/patches_real', 'selftest/patches_imag'}


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return write_model(tmp_path / 'model.safetensors', **parts())


def forge(
    path: Path,
    edit: Callable[[dict[str, Any]], object] = lambda manifest: None,
    arrays: Callable[[dict[str, Any]], object] = lambda tensors: None,
) -> Path:
    """Change the manifest or the arrays and make the digest agree, as somebody would who wants to be believed."""
    manifest, tensors = decode(path)
    edit(manifest)
    arrays(tensors)
    path.write_bytes(encode(manifest, tensors))
    return path


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and what follows it."""
    length = int.from_bytes(data[:8], 'little')
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict[str, Any] | bytes, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + body


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    sentence = str(caught.value)
    assert sentence.endswith('.') and '\n' not in sentence and path.name in sentence, sentence
    return sentence


# --- writing and reading


@pytest.mark.parametrize('kind', [str, Path])
def test_what_was_written_is_what_is_read(tmp_path: Path, kind: type) -> None:
    given_parts = parts()
    target = kind(tmp_path / 'new folder' / 'any name.safetensors')
    assert write_model(target, **given_parts) == Path(target)
    model = open_model(target)
    assert model.weights.keys() == given_parts['weights'].keys()
    for key, weight in given_parts['weights'].items():
        assert model.weights[key].dtype == np.float32 and model.weights[key].shape == weight.shape
        assert model.weights[key].tobytes() == weight.tobytes()
    assert model.probe.dtype == np.complex64 and model.probe.tobytes() == given_parts['probe'].tobytes()
    assert model.self_test.counts.tobytes() == given_parts['self_test'].counts.tobytes()
    assert model.self_test.patches.tobytes() == given_parts['self_test'].patches.tobytes()
    known = given_parts['description']
    assert {name: getattr(model.manifest, name) for name in type(known).model_fields} == dict(known)
    assert model.config == known.config and model.manifest.input.shape == (None, N, N)
    assert model.manifest.output.shape == (None, N // 2, N // 2) and model.manifest.created.endswith('+00:00')
    assert os.listdir(tmp_path / 'new folder') == ['any name.safetensors']


def test_any_reader_of_safetensors_finds_arrays_and_manifest(model_file: Path) -> None:
    from safetensors import safe_open

    with safe_open(model_file, framework='numpy') as reader:
        assert set(reader.keys()) == {'weights/gain', 'weights/bias', 'weights/unused.kernel', *ARRAYS}
        assert reader.metadata().keys() == {'manifest'}
        manifest = json.loads(reader.metadata()['manifest'])
        np.testing.assert_array_equal(reader.get_tensor('weights/gain'), parts()['weights']['gain'])
    assert (manifest['format'], manifest['format_version']) == ('ptychopinn-model', 2)
    assert manifest['config']['model']['N'] == N and manifest['training']['losses'] == [[1, 0.25], [2, 1e-5]]


def test_the_digest_is_of_the_manifest_and_of_every_array(model_file: Path) -> None:
    """Computed here in the words of the specification."""
    header, body = split(model_file.read_bytes())
    manifest = json.loads(header.pop('__metadata__')['manifest'])
    told = manifest.pop('sha256')
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(',', ':')).encode())
    for name, entry in sorted(header.items()):
        begin, end = entry['data_offsets']
        digest.update(b'\n' + json.dumps([name, 'F32', entry['shape']]).encode() + b'\n' + body[begin:end])
    assert digest.hexdigest() == told == open_model(model_file).manifest.sha256


def test_two_writes_differ_in_their_date_alone(tmp_path: Path) -> None:
    one, two = (decode(write_model(tmp_path / name, **parts())) for name in 'ab')
    assert {**one[0], 'created': '', 'sha256': ''} == {**two[0], 'created': '', 'sha256': ''}
    assert encode(one[0], one[1]) == encode(one[0], two[1]) == (tmp_path / 'a').read_bytes()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    extra=st.dictionaries(
        st.text(st.characters(codec='utf-8', categories=('L', 'N', 'P')), min_size=1, max_size=12).filter(
            lambda name: name not in ('gain', 'bias', 'unused.kernel')
        ),
        hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
            elements=st.floats(-(2.0**100), 2.0**100, width=32),
        ),
        max_size=4,
    )
)
def test_weights_of_any_name_and_shape_survive_bit_by_bit(tmp_path: Path, extra: dict[str, Any]) -> None:
    given_parts = parts(**extra)
    read = open_model(write_model(tmp_path / 'model.safetensors', **given_parts)).weights
    assert read.keys() == given_parts['weights'].keys()
    for name, weight in given_parts['weights'].items():
        assert read[name].shape == weight.shape and read[name].tobytes() == weight.tobytes()


@pytest.mark.parametrize('layout', ['transposed', 'strided'])
def test_the_memory_layout_does_not_matter(tmp_path: Path, layout: str) -> None:
    kernel = np.arange(24, dtype=np.float32).reshape(4, 6)
    view = {'transposed': kernel.T, 'strided': kernel[::2, ::3]}[layout]
    np.testing.assert_array_equal(open_model(write_model(tmp_path / 'm', **parts(view=view))).weights['view'], view)


def test_each_opening_gives_arrays_of_its_own(model_file: Path) -> None:
    """SINGLETON: what one user of a model does to its arrays is not seen by another."""
    first = open_model(model_file)
    before = first.weights['gain'].copy()
    first.weights['gain'][:] = 7.0
    np.testing.assert_array_equal(open_model(model_file).weights['gain'], before)


def test_a_new_process_opens_it_without_a_framework_and_reads_the_same(model_file: Path) -> None:
    program = f"""
        import sys
        from ptychopinn_reconstructor.model_file.opening import inspect_model, open_model
        inspect_model({str(model_file)!r})
        model = open_model({str(model_file)!r})
        print(sorted({FOREIGN!r} & {{name.partition('.')[0] for name in sys.modules}}))
        print(model.weights['gain'].tobytes().hex(), model.self_test.patches.tobytes().hex())
    """
    result = subprocess.run(
        [sys.executable, '-P', '-c', textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=300
    )
    loaded, arrays = result.stdout.splitlines()
    assert loaded == '[]'
    assert arrays == f'{parts()["weights"]["gain"].tobytes().hex()} {parts()["self_test"].patches.tobytes().hex()}'


def test_an_inspection_is_plain_json(model_file: Path) -> None:
    report = json.loads(json.dumps(inspect_model(str(model_file)).to_json()))
    assert report['size'] == model_file.stat().st_size and report['path'] == str(model_file)
    assert report['manifest']['architecture']['parameters'] == 2 + 1 + 30
    assert report['arrays']['weights/unused.kernel'] == [3, 2, 1, 5] and report['arrays']['probe'] == [MODES, N, N]
    assert report['manifest'] == json.loads(split(model_file.read_bytes())[0]['__metadata__']['manifest'])


# --- the self-test


def test_a_replay_tells_the_difference(model_file: Path) -> None:
    found = replay(model_file, open_model(model_file), predict)
    assert found.difference == 0.0 and found.patterns == 3 and found.tolerance == 1e-6
    given_parts = parts()
    recorded = given_parts['self_test'].patches
    expected = np.abs(given_parts['fresh_patches'] - recorded).max() / np.abs(recorded).max()
    assert found.distance_to_fresh == pytest.approx(expected, rel=1e-6)
    assert found.written_by == given_parts['description'].backend


@pytest.mark.parametrize(('factor', 'passes'), [(0.5, True), (2.0, False)])
def test_the_tolerance_is_relative_to_the_amplitude_range(model_file: Path, factor: float, passes: bool) -> None:
    def shifted(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex128]:
        patches = predict(model, counts).astype(np.complex128)
        patches[1, 2, 3] += 1j * factor * 1e-6 * np.abs(patches).max()
        return patches

    if passes:
        assert replay(model_file, open_model(model_file), shifted).difference == pytest.approx(0.5e-6, rel=1e-3)
    else:
        with pytest.raises(VerificationError, match='self-test'):
            replay(model_file, open_model(model_file), shifted)


@pytest.mark.parametrize('wrong', ['nan', 'shape'])
def test_nan_and_another_shape_never_pass(model_file: Path, wrong: str) -> None:
    def broken(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        patches = predict(model, counts)
        return patches[:, :-1] if wrong == 'shape' else patches * np.complex64('nan')

    with pytest.raises(VerificationError):
        replay(model_file, open_model(model_file), broken)


def test_an_untrained_network_is_not_saved(tmp_path: Path) -> None:
    given_parts = parts()
    patches = given_parts['self_test'].patches
    near = patches.copy()
    near[0, 0, 0] += 90e-6 * np.abs(patches).max()
    for fresh in (patches, near, patches * np.complex64('nan')):
        with pytest.raises(VerificationError, match='fresh network'):
            write_model(tmp_path / 'model.safetensors', **{**given_parts, 'fresh_patches': fresh})
    assert not list(tmp_path.iterdir())
    near[0, 0, 0] += 20e-6 * np.abs(patches).max()
    write_model(tmp_path / 'model.safetensors', **{**given_parts, 'fresh_patches': near})


def test_weights_that_are_not_those_of_the_recorded_output_are_not_saved(tmp_path: Path) -> None:
    given_parts = parts()
    given_parts['weights'] = {**given_parts['weights'], 'gain': given_parts['weights']['gain'] * np.float32(1.001)}
    with pytest.raises(VerificationError, match=r'model\.safetensors'):
        write_model(tmp_path / 'model.safetensors', **given_parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('change', 'fragment'),
    [
        ({'tolerance': 2e-5}, 'tolerance'),
        ({'tolerance': 0.0}, 'tolerance'),
        ({'tolerance': float('nan')}, 'tolerance'),
        ({'counts': -np.ones((3, N, N), np.float32)}, 'negative'),
        ({'counts': np.ones((3, N, N))}, 'float64'),
        ({'counts': np.ones((2, N, N), np.float32)}, '2 inputs and 3 outputs'),
        ({'patches': np.zeros((3, 8, 8), np.complex64)}, 'zero'),
        ({'patches': np.full((3, 8, 8), np.nan, np.complex64)}, 'NaN'),
        ({'patches': np.ones((3, 8, 4), np.complex64)}, r'\(3, 8, 4\)'),
    ],
)
def test_a_useless_self_test_is_refused(change: dict[str, Any], fragment: str) -> None:
    good = parts()['self_test']
    with pytest.raises(ModelFileError, match=fragment):
        SelfTest(**{'counts': good.counts, 'patches': good.patches, 'tolerance': 1e-6, **change})


# --- atomic writing


def test_an_error_while_writing_leaves_the_old_file(model_file: Path) -> None:
    before = model_file.read_bytes()

    def interrupted(model: Model, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        assert len(list(model_file.parent.iterdir())) == 2  # the new file is complete but not yet named
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_model(model_file, **{**parts(seed=1), 'predict': interrupted})
    assert model_file.read_bytes() == before
    assert os.listdir(model_file.parent) == [model_file.name]


def test_a_killed_process_leaves_the_old_file(model_file: Path) -> None:
    before = model_file.read_bytes()
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from model_files import parts
        from ptychopinn_reconstructor.model_file.writing import write_model
        def killed(model, counts):
            os.kill(os.getpid(), signal.SIGKILL)
        write_model({str(model_file)!r}, **{{**parts(seed=1), 'predict': killed}})
    """
    result = subprocess.run([sys.executable, '-P', '-c', textwrap.dedent(program)], check=False, timeout=300)
    assert result.returncode == -signal.SIGKILL
    assert model_file.read_bytes() == before


def test_overwriting_replaces_the_old_file(model_file: Path) -> None:
    write_model(model_file, **parts(seed=1))
    np.testing.assert_array_equal(open_model(model_file).probe, parts(seed=1)['probe'])


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / 'storage').mkdir()
    link = tmp_path / 'model.safetensors'
    link.symlink_to(tmp_path / 'storage' / 'real.safetensors')
    write_model(link, **parts())
    assert link.is_symlink() and (tmp_path / 'storage' / 'real.safetensors').is_file()


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('not a folder')
    with pytest.raises(OutputError, match='Cannot write into the folder'):
        write_model(tmp_path / 'file' / 'model.safetensors', **parts())
    with pytest.raises(OutputError, match='it is a folder'):
        write_model(tmp_path, **parts())


@pytest.mark.parametrize(
    ('change', 'fragment'),
    [
        ({'weights': {}}, 'no weights'),
        ({'weights': {'gain': np.ones(2)}}, 'float64'),
        ({'weights': {'gain': np.array([1, np.inf], np.float32)}}, 'infinity'),
        ({'weights': {'gain': np.ones(2, np.float32)}}, '2 parameters, not 33'),
        ({'description': description(Config().merged({'model': {'N': 32}}), parameters=33)}, r'not \(32, 32\)'),
    ],
)
def test_what_is_not_fit_to_be_written_is_refused(tmp_path: Path, change: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ModelFileError, match=fragment):
        write_model(tmp_path / 'model.safetensors', **{**parts(), **change})
    assert not list(tmp_path.iterdir())


# --- refusals: files of others


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def other_tensors() -> bytes:
    from safetensors.numpy import save

    return save({'encoder.weight': np.ones(3, np.float32)}, metadata={'format': 'pt'})


@pytest.mark.parametrize(
    ('content', 'fragment'),
    [
        (b'', 'is empty'),
        (b'hello world', 'is no model file'),
        (b'hi', 'is no model file'),
        (pickle.dumps({'a': 1}), 'is a pickle'),
        (b'\x89HDF\r\n\x1a\n' + bytes(64), 'is an HDF5 file'),
        (b'\x93NUMPY' + bytes(64), 'is a NumPy array file'),
        (b'\x1f\x8b' + bytes(64), 'is a gzip file'),
        (b'PK\x03\x04' + bytes(64), 'truncated or damaged zip'),
        (zip_bytes({'model/params.dill': b'\x80', 'model/wts.h5': b''}), 'original PtychoPINN .*train again'),
        (zip_bytes({'wts.h5': b'\x89HDF'}), 'is a Keras model'),
        (zip_bytes({'metadata.json': b'{}', 'model.weights.h5': b''}), r'is a Keras model .* checkpoint'),
        (zip_bytes({'last/data.pkl': b'\x80', 'last/version': b'3'}), r'checkpoint .* hand in the model\.safetensors'),
        (zip_bytes({'manifest.json': b'{}', 'weights.safetensors': b''}), r'of a version before 0\.1\.0.*train again'),
        (zip_bytes({'diff3d.npy': b''}), 'NPZ'),
        (zip_bytes({'readme.txt': b'hello'}), 'is a zip file, not a model file'),
        (zip_bytes({}), 'is a zip file'),
        (other_tensors(), 'without the manifest of a model'),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / 'model.safetensors'
    path.write_bytes(content)
    assert re.search(fragment, refused(path))


def test_absent_folder_and_pipe(tmp_path: Path) -> None:
    assert 'There is no model file' in refused(tmp_path / 'absent.safetensors')
    assert 'is a folder' in refused(tmp_path)
    os.mkfifo(tmp_path / 'pipe')
    assert 'device or pipe' in refused(tmp_path / 'pipe')


# --- refusals: damage


def test_truncation_at_any_length(model_file: Path) -> None:
    data = model_file.read_bytes()
    for length in [*range(12), *np.linspace(12, len(data) - 1, 60).astype(int)]:
        model_file.write_bytes(data[:length])
        sentence = refused(model_file)
        assert length < 9 or 'truncated' in sentence


def test_bytes_at_the_end_are_refused(model_file: Path) -> None:
    model_file.write_bytes(model_file.read_bytes() + b'\0' * 8)
    assert 'truncated or altered' in refused(model_file)


def test_no_changed_space_of_the_padding_gives_a_model(model_file: Path) -> None:
    """JSON knows other spaces, and the header is in no digest."""
    data = model_file.read_bytes()
    end = 8 + int.from_bytes(data[:8], 'little')
    header = data[8:end].rstrip()
    for padding in (b' ' * 7 + b'\t', b'\n' * 8, b'\0' * 8):
        model_file.write_bytes(joined(header + padding, data[end:]))
        assert 'damaged' in refused(model_file)
    model_file.write_bytes(joined(header + b' ' * 8, data[end:]))
    open_model(model_file)


@pytest.mark.parametrize('name', ['weights/gain', *sorted(ARRAYS)])
def test_an_altered_array_is_refused(model_file: Path, name: str) -> None:
    header, body = split(model_file.read_bytes())
    changed = bytearray(body)
    changed[header[name]['data_offsets'][0]] ^= 1
    model_file.write_bytes(joined(header, bytes(changed)))
    assert 'was altered' in refused(model_file)


def test_two_arrays_under_each_others_names_are_refused(model_file: Path) -> None:
    header, body = split(model_file.read_bytes())
    header['probe/real'], header['probe/imag'] = header['probe/imag'], header['probe/real']
    model_file.write_bytes(joined(header, body))
    assert 'was altered' in refused(model_file)


# --- refusals: the safetensors header


@pytest.mark.parametrize('length', [2**62, 2**31, MAX_HEADER + 1])
def test_an_absurd_header(model_file: Path, length: int) -> None:
    data = model_file.read_bytes()
    model_file.write_bytes(struct.pack('<Q', length) + data[8:])
    assert f'a header of {length} bytes' in refused(model_file)


def test_an_absurd_file_is_not_read(model_file: Path) -> None:
    with model_file.open('r+b') as stream:
        stream.truncate(MAX_FILE + 1)  # sparse: it takes no space
    assert f'{MAX_FILE + 1} bytes large' in refused(model_file)


def with_entry(**entry: Any) -> Callable[[dict[str, Any]], object]:
    return lambda header: header['weights/gain'].update(entry)


@pytest.mark.parametrize(
    ('edit', 'fragment'),
    [
        (with_entry(dtype='F64'), "bad dtype .*'F32'"),
        (with_entry(dtype='BF16'), "bad dtype .*'F32'"),
        (with_entry(shape=[-2]), r'bad shape\.0'),
        (with_entry(shape=[True, 2]), r'bad shape\.0'),
        (with_entry(shape=[2.0]), r'bad shape\.0'),
        (with_entry(shape=[1] * 8 + [2]), 'bad shape'),
        (with_entry(shape=[3]), r'shape \[3\] but 8 bytes'),
        (with_entry(shape=[2**31, 2**31]), 'but 8 bytes'),
        (with_entry(data_offsets=[0, 2**60]), r'bad data_offsets\.1'),
        (with_entry(data_offsets=[8, 0]), 'but -8 bytes'),
        (with_entry(data_offsets=[0, 8, 16]), 'bad data_offsets'),
        (with_entry(more=1), 'bad more'),
        (lambda header: header.update({'weights/gain': None}), 'bad entry'),
        (lambda header: header['weights/gain'].pop('dtype'), 'bad dtype'),
        (lambda header: header.pop('weights/gain'), 'overlap or leave gaps'),
        (lambda header: header.update(twin=header['weights/gain']), 'overlap or leave gaps'),
        (lambda header: header.update({f'{i}': {} for i in range(10_000)}), 'arrays, more than 10000'),
        (lambda header: header.pop('__metadata__'), 'without the manifest'),
        (lambda header: header.update(__metadata__=[]), 'without the manifest'),
        (lambda header: header.update(__metadata__={'manifest': {}}), 'without the manifest'),
        (lambda header: header['__metadata__'].update(more='1'), 'without the manifest'),
    ],
)
def test_a_header_that_is_not_one(model_file: Path, edit: Callable[[dict[str, Any]], object], fragment: str) -> None:
    header, body = split(model_file.read_bytes())
    edit(header)
    model_file.write_bytes(joined(header, body))
    assert re.search(fragment, refused(model_file))


@pytest.mark.parametrize(
    ('header', 'fragment'),
    [
        (b'{', 'header .* damaged'),
        (b'{"a":1,"a":1}', "'a' is there twice"),
        (b'{"a":{"b":1,"b":1}}', "'b' is there twice"),
        (b'{"a":NaN}', 'NaN is no JSON number'),
        (b'{"a":' + b'[' * 100_000, 'damaged'),
        (b'{"\xff":1}', 'damaged'),
        (b'{}', 'without the manifest'),
    ],
)
def test_a_header_that_is_no_json(tmp_path: Path, header: bytes, fragment: str) -> None:
    path = tmp_path / 'model.safetensors'
    path.write_bytes(joined(header, bytes(64)))
    assert re.search(fragment, refused(path))


# --- refusals: the manifest


@pytest.mark.parametrize(
    ('text', 'fragment'),
    [
        ('{', 'manifest .* damaged'),
        ('', 'manifest .* damaged'),
        ('[' * 100_000, 'damaged'),
        ('{"a":NaN}', 'NaN is no JSON number'),
        ('{"format":"x","format":"ptychopinn-model"}', "'format' is there twice"),
        ('[]', 'no JSON object'),
        ('{ }', 'not written as this format is'),
        ('{"b":1,"a":1}', 'not written as this format is'),
        ('{"a":"\ud800"}', 'damaged'),
    ],
)
def test_a_manifest_that_is_no_json(model_file: Path, text: str, fragment: str) -> None:
    header, body = split(model_file.read_bytes())
    header['__metadata__']['manifest'] = text
    model_file.write_bytes(joined(header, body))
    assert re.search(fragment, refused(model_file))


def test_a_manifest_without_the_digest_is_refused(model_file: Path) -> None:
    header, body = split(model_file.read_bytes())
    manifest = json.loads(header['__metadata__']['manifest'])
    for digest in ({}, {'sha256': None}, {'sha256': '0' * 64}):
        changed = {**{key: value for key, value in manifest.items() if key != 'sha256'}, **digest}
        header['__metadata__']['manifest'] = canonical(changed)
        model_file.write_bytes(joined(header, body))
        assert 'was altered' in refused(model_file)


@pytest.mark.parametrize('version', [1, 3, True, 2.0, '2', None])
def test_an_unknown_version(model_file: Path, version: object) -> None:
    forge(model_file, lambda manifest: manifest.update(format_version=version))
    assert f'format version {version!r} but this program reads 2' in refused(model_file)


@pytest.mark.parametrize('value', ['bioimage', 2, None])
def test_an_unknown_format(model_file: Path, value: object) -> None:
    forge(model_file, lambda manifest: manifest.update(format=value))
    assert 'does not say format' in refused(model_file)


@pytest.mark.parametrize(
    ('section', 'entry', 'fragment'),
    [
        ('training', {'losses': [[1, 2.0, 3.0]]}, r'training\.losses\.0'),
        ('training', {'cpu_seconds': -1.0}, r'training\.cpu_seconds'),
        ('training', {'epochs': -1}, r'training\.epochs'),
        ('training', {'epochs': 2**60}, r'training\.epochs'),
        ('training', {'device': ''}, r'training\.device'),
        ('training', {'device': 'x' * 300}, r'training\.device'),
        ('training', {'scans': ['x' * 70_000]}, r'training\.scans'),
        ('scaling', {'probe_power': 'auto'}, r'scaling\.probe_power'),
        ('scaling', {'power_ratio': 0.0}, r'scaling\.power_ratio'),
        ('scaling', {'refined_from': 'x' * 64}, r'scaling\.refined_from'),
        ('trained_for', {'counts': [2.0, 1.0]}, r'trained_for\.counts: the smallest value 2\.0 is above'),
        ('self_test', {'tolerance': 1e-4}, r'self_test\.tolerance'),
        ('self_test', {'tolerance': 9e-7}, ''),
        ('self_test', {'amplitude_range': 1.0}, 'the amplitude range is'),
        ('input', {'shape': [None, 8, 8]}, 'the input has shape'),
        ('output', {'shape': [None, 16, 16]}, 'the output has shape'),
        ('output', {'dtype': 'float64'}, r'output\.dtype'),
        ('architecture', {'N': 32}, r'architecture\.N is 32 but config\.model\.N is 16'),
        ('architecture', {'name': 'other'}, r'architecture\.name is other but'),
        ('architecture', {'parameters': 34}, '33 parameters, not 34'),
        ('versions', {'numpy': 2}, r'versions\.numpy'),
        ('versions', {f'{i}': '1' for i in range(101)}, 'versions'),
    ],
)
def test_a_manifest_with_a_wrong_value(model_file: Path, section: str, entry: dict[str, Any], fragment: str) -> None:
    """With a digest that agrees; only the value of another tolerance is as good as the recorded one."""
    forge(model_file, lambda manifest: manifest[section].update(entry))
    if fragment:
        assert re.search(fragment, refused(model_file))
    else:
        assert open_model(model_file).manifest.self_test.tolerance == 9e-7


@pytest.mark.parametrize(
    ('value', 'fragment'),
    [
        ({'created': 'yesterday'}, 'created'),
        ({'created': '2026-01-01T00:00:00+01:00'}, 'created'),
        ({'backend': ''}, 'backend'),
        ({'card': 'x' * 70_000}, 'card'),
        ({'card': None}, ''),
        ({'config': None}, 'configuration in the model'),
        ({'config': [1]}, 'configuration in the model'),
        ({'config': {'format_version': 99}}, 'format_version 99'),
        ({'config': {'model': {'N': 16, 'widths': [1]}}}, "no setting 'model.widths'"),
        ({'config': {'model': {'N': 'sixteen'}}}, r'model\.N'),
        ({'config': {'model': {}}}, r'config\.model\.N is None'),
    ],
)
def test_an_entry_with_a_wrong_value(model_file: Path, value: dict[str, Any], fragment: str) -> None:
    forge(model_file, lambda manifest: manifest.update(value))
    if fragment:
        assert re.search(fragment, refused(model_file))
    else:
        assert open_model(model_file).manifest.card is None


# --- refusals: the arrays


def set_to(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: np.asarray(value, np.float32)})


ONES = np.ones((MODES, N, N), np.float32)


@pytest.mark.parametrize(
    ('edit', 'fragment'),
    [
        (lambda tensors: tensors.pop('weights/bias'), '32 parameters, not 33'),
        (set_to('weights/more', 1), '34 parameters, not 33'),
        (set_to('other', 1), "holds the arrays .*'other'"),
        (set_to('weights', 1), "holds the arrays .*'weights'"),
        (set_to('weights/gain', [1, np.nan]), "'weights/gain' .* NaN or infinity"),
        (set_to('probe/real', np.full((MODES, N, N), np.inf)), "'probe/real' .* NaN or infinity"),
        (lambda tensors: tensors.pop('probe/imag'), 'holds the arrays'),
        (lambda tensors: tensors.pop('selftest/counts'), 'holds the arrays'),
        (set_to('probe/imag', ONES[:1]), 'different shapes'),
        (lambda tensors: (set_to('probe/real', 0 * ONES)(tensors), set_to('probe/imag', 0 * ONES)(tensors)), 'zero'),
        (
            lambda tensors: [set_to(f'probe/{part}', ONES[:, :8, :8])(tensors) for part in ('real', 'imag')],
            '8 pixels',
        ),
        (set_to('selftest/counts', -np.ones((3, N, N))), 'negative'),
        (set_to('selftest/counts', np.ones((2, N, N))), '2 inputs and 3 outputs'),
        (set_to('selftest/counts', np.ones((3, 8, 8))), r'\(8, 8\), not \(16, 16\)'),
        (set_to('selftest/patches_imag', np.ones((3, 8, 4))), 'different shapes'),
    ],
)
def test_arrays_that_do_not_fit(model_file: Path, edit: Callable[[dict[str, Any]], object], fragment: str) -> None:
    """BADLOAD: missing, superfluous and misshapen arrays, with a digest that agrees."""
    forge(model_file, arrays=edit)
    assert re.search(fragment, refused(model_file))
