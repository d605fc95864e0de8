"""The model bundle; test names and docstrings refer to the clauses of specs/checkpoint_format.md."""

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ModelFileError, OutputError, VerificationError
from ptychopinn_reconstructor.model_file.bundle import (
    Bundle,
    SelfTest,
    inspect_bundle,
    open_bundle,
    verify_bundle,
    write_bundle,
)

N, MODES = 16, 2
FOREIGN = {'torch', 'lightning', 'tensorflow', 'keras', 'matplotlib', 'scipy', 'h5py', 'skimage', 'PyQt5', 'ptychodus'}


def predict(bundle: Bundle, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
    """A network of two weights, built from the bundle alone: a complex gain on the cropped amplitude, and a bias."""
    return _network(bundle.weights, counts)


def _network(weights: Mapping[str, NDArray[np.float32]], counts: NDArray[np.float32]) -> NDArray[np.complex64]:
    crop = np.sqrt(counts)[:, N // 4 : -N // 4, N // 4 : -N // 4]
    gain = weights['gain'][0] + 1j * weights['gain'][1]
    return np.asarray(crop * gain + weights['bias'] * 0.1, dtype=np.complex64)


def _parts(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    weights = {
        'gain': rng.normal(size=2).astype(np.float32),
        'bias': np.float32(rng.normal()) * np.ones((), np.float32),
        'unused.kernel': rng.normal(size=(3, 2, 1, 5)).astype(np.float32),
    }
    counts = rng.poisson(50.0, (3, N, N)).astype(np.float32)
    probe = (rng.normal(size=(MODES, N, N)) + 1j * rng.normal(size=(MODES, N, N))).astype(np.complex64)
    fresh = {'gain': np.array([0.1, 0.0], np.float32), 'bias': np.zeros((), np.float32)}
    return {
        'config': {'model': {'N': N, 'widths': (32, 48)}, 'data': {'file': Path('scan.npz')}},
        'backend': 'torch',
        'architecture': {'name': 'unet', 'a_max': np.float32(2.0)},
        'weights': weights,
        'probe': probe,
        'scaling': {'s': np.float64(0.25)},
        'training': {'epochs': np.int64(3), 'losses': [1.5, float('nan')]},
        'versions': {'numpy': np.__version__},
        'selftest': SelfTest(counts, _network(weights, counts), 1e-6),
        'fresh_patches': _network(fresh, counts),
        'predict': predict,
    }


@pytest.fixture
def bundle_file(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / 'model.zip', **_parts())


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _rewrite(path: Path, members: Mapping[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, 'w', **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _forge(path: Path, changes: Mapping[str, bytes], edit: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Replace members and make the manifest's checksums agree, as somebody would who wants to be believed."""
    members = {**_members(path), **changes}
    manifest = json.loads(members['manifest.json'])
    for name in changes:
        manifest['members'][name] = {
            'size': len(members[name]),
            'sha256': hashlib.sha256(members[name]).hexdigest(),
        }
    if edit:
        edit(manifest)
    return _rewrite(path, {**members, 'manifest.json': json.dumps(manifest).encode()})


def _tensors(**arrays: NDArray[Any]) -> bytes:
    from safetensors.numpy import save

    return save(arrays)


def _refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        open_bundle(path)
    sentence = str(caught.value)
    assert sentence.endswith('.') and '\n' not in sentence and path.name in sentence
    return sentence


# --- writing and reading


@pytest.mark.parametrize('kind', [str, Path])
@pytest.mark.parametrize('name', ['model.zip', 'wts.h5.zip'])
def test_c1_c18_to_c20_what_was_written_is_what_is_read(tmp_path: Path, kind: type, name: str) -> None:
    parts = _parts()
    target = kind(tmp_path / 'new folder' / name)
    assert write_bundle(target, **parts) == Path(target)
    bundle = open_bundle(target)
    assert set(_members(Path(target))) == {
        'manifest.json',
        'weights.safetensors',
        'probe.safetensors',
        'selftest.safetensors',
    }
    assert bundle.weights.keys() == parts['weights'].keys()
    for key, weight in parts['weights'].items():
        assert bundle.weights[key].dtype == np.float32
        np.testing.assert_array_equal(bundle.weights[key], weight)
    np.testing.assert_array_equal(bundle.probe, parts['probe'])
    assert bundle.probe.dtype == np.complex64
    np.testing.assert_array_equal(bundle.selftest.counts, parts['selftest'].counts)
    np.testing.assert_array_equal(bundle.selftest.patches, parts['selftest'].patches)
    assert os.listdir(tmp_path / 'new folder') == [name]


def test_c17_the_manifest_holds_plain_json_types(bundle_file: Path) -> None:
    manifest = json.loads(_members(bundle_file)['manifest.json'])
    assert manifest['format'] == 'ptychopinn-bundle' and manifest['format_version'] == 1
    assert manifest['config'] == {'model': {'N': 16, 'widths': [32, 48]}, 'data': {'file': 'scan.npz'}}
    assert manifest['architecture'] == {'name': 'unet', 'a_max': 2.0}
    assert manifest['training'] == {'epochs': 3, 'losses': [1.5, None]}
    assert manifest['inputs'][0]['shape'] == [None, 16, 16] and manifest['inputs'][0]['unit'] == 'counts'
    assert manifest['outputs'][0]['shape'] == [None, 8, 8]
    assert manifest['weights'] == [
        {'name': 'bias', 'shape': [], 'dtype': 'float32'},
        {'name': 'gain', 'shape': [2], 'dtype': 'float32'},
        {'name': 'unused.kernel', 'shape': [3, 2, 1, 5], 'dtype': 'float32'},
    ]
    assert manifest['created'].endswith('+00:00')


def test_c14_the_checksums_are_those_of_the_members(bundle_file: Path) -> None:
    members = _members(bundle_file)
    recorded = json.loads(members.pop('manifest.json'))['members']
    assert {name: entry['sha256'] for name, entry in recorded.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in members.items()
    }


def test_inspect_gives_plain_json(bundle_file: Path) -> None:
    report = json.loads(json.dumps(inspect_bundle(str(bundle_file))))
    assert report['size'] == bundle_file.stat().st_size
    assert report['parameters'] == 2 + 1 + 30
    assert [member['name'] for member in report['members']] == [
        'weights.safetensors',
        'probe.safetensors',
        'selftest.safetensors',
    ]
    assert all(member['sha256_matches'] for member in report['members'])


def test_two_writes_give_the_same_members(tmp_path: Path) -> None:
    one, two = (_members(write_bundle(tmp_path / name, **_parts())) for name in ('a.zip', 'b.zip'))
    assert {k: v for k, v in one.items() if k != 'manifest.json'} == {
        k: v for k, v in two.items() if k != 'manifest.json'
    }


def test_c2_a_repacked_bundle_opens(bundle_file: Path) -> None:
    original = open_bundle(bundle_file)
    _rewrite(bundle_file, _members(bundle_file), compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(open_bundle(bundle_file).probe, original.probe)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    extra=st.dictionaries(
        st.text(st.characters(codec='utf-8', categories=('L', 'N', 'P')), min_size=1, max_size=12).filter(
            lambda name: name not in ('gain', 'bias', '__metadata__')
        ),
        hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
            elements=st.floats(-(2.0**100), 2.0**100, width=32),
        ),
        max_size=4,
    )
)
def test_c18_weights_of_any_name_and_shape_survive_bit_by_bit(tmp_path: Path, extra: dict[str, Any]) -> None:
    parts = _parts()
    weights = {'gain': parts['weights']['gain'], 'bias': parts['weights']['bias'], **extra}
    read = open_bundle(write_bundle(tmp_path / 'model.zip', **{**parts, 'weights': weights})).weights
    assert read.keys() == weights.keys()
    for name, weight in weights.items():
        assert read[name].shape == weight.shape and read[name].tobytes() == weight.tobytes()


@pytest.mark.parametrize('layout', ['transposed', 'strided'])
def test_c18_the_memory_layout_does_not_matter(tmp_path: Path, layout: str) -> None:
    kernel = np.arange(24, dtype=np.float32).reshape(4, 6)
    view = {'transposed': kernel.T, 'strided': kernel[::2, ::3]}[layout]
    parts = _parts()
    parts['weights'] = {**parts['weights'], 'view': view}
    np.testing.assert_array_equal(open_bundle(write_bundle(tmp_path / 'm.zip', **parts)).weights['view'], view)


def test_each_opening_gives_arrays_of_its_own(bundle_file: Path) -> None:
    """SINGLETON: what one user of a bundle does to its arrays is not seen by another."""
    first = open_bundle(bundle_file)
    before = first.weights['gain'].copy()
    first.weights['gain'][:] = 7.0
    np.testing.assert_array_equal(open_bundle(bundle_file).weights['gain'], before)


def test_c4_c24_a_new_process_opens_it_without_a_framework_and_gives_the_same_patches(bundle_file: Path) -> None:
    program = f"""
        import sys
        from ptychopinn_reconstructor.model_file.bundle import inspect_bundle, open_bundle
        inspect_bundle({str(bundle_file)!r})
        bundle = open_bundle({str(bundle_file)!r})
        print(sorted({FOREIGN!r} & {{name.partition('.')[0] for name in sys.modules}}))
        print(bundle.weights['gain'].tobytes().hex(), bundle.selftest.patches.tobytes().hex())
    """
    result = subprocess.run(
        [sys.executable, '-P', '-c', textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=300
    )
    loaded, arrays = result.stdout.splitlines()
    parts = _parts()
    assert loaded == '[]'
    assert arrays == f'{parts["weights"]["gain"].tobytes().hex()} {parts["selftest"].patches.tobytes().hex()}'


# --- the self-test


def test_c26_verify_reports_the_difference(bundle_file: Path) -> None:
    report = verify_bundle(bundle_file, predict)
    assert report.difference == 0.0 and report.patterns == 3 and report.backend == 'torch' and report.tolerance == 1e-6
    parts = _parts()
    expected = (
        np.abs(parts['fresh_patches'] - parts['selftest'].patches).max() / np.abs(parts['selftest'].patches).max()
    )
    assert report.distance_to_fresh == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(('factor', 'passes'), [(0.5, True), (2.0, False)])
def test_c21_c25_the_tolerance_is_relative_to_the_amplitude_range(
    bundle_file: Path, factor: float, passes: bool
) -> None:
    def shifted(bundle: Bundle, counts: NDArray[np.float32]) -> NDArray[np.complex128]:
        patches = predict(bundle, counts).astype(np.complex128)
        patches[1, 2, 3] += 1j * factor * 1e-6 * np.abs(patches).max()
        return patches

    if passes:
        assert verify_bundle(bundle_file, shifted).difference == pytest.approx(0.5e-6, rel=1e-3)
    else:
        with pytest.raises(VerificationError, match='self-test'):
            verify_bundle(bundle_file, shifted)


@pytest.mark.parametrize('wrong', ['nan', 'shape'])
def test_c25_nan_and_another_shape_never_pass(bundle_file: Path, wrong: str) -> None:
    def broken(bundle: Bundle, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        patches = predict(bundle, counts)
        return patches[:, :-1] if wrong == 'shape' else patches * np.complex64('nan')

    with pytest.raises(VerificationError):
        verify_bundle(bundle_file, broken)


def test_c23_an_untrained_network_is_not_saved(tmp_path: Path) -> None:
    parts = _parts()
    patches = parts['selftest'].patches
    near = patches.copy()
    near[0, 0, 0] += 90e-6 * np.abs(patches).max()
    for fresh in (patches, near, patches * np.complex64('nan')):
        with pytest.raises(VerificationError, match='fresh network'):
            write_bundle(tmp_path / 'model.zip', **{**parts, 'fresh_patches': fresh})
    assert not list(tmp_path.iterdir())
    near[0, 0, 0] += 20e-6 * np.abs(patches).max()
    write_bundle(tmp_path / 'model.zip', **{**parts, 'fresh_patches': near})


def test_c26_weights_that_are_not_those_of_the_recorded_output_are_not_saved(tmp_path: Path) -> None:
    parts = _parts()
    parts['weights'] = {**parts['weights'], 'gain': parts['weights']['gain'] * np.float32(1.001)}
    with pytest.raises(VerificationError, match=r'model\.zip'):
        write_bundle(tmp_path / 'model.zip', **parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('change', 'fragment'),
    [
        ({'tolerance': 2e-5}, 'tolerance'),
        ({'tolerance': 0.0}, 'tolerance'),
        ({'tolerance': float('nan')}, 'tolerance'),
        ({'counts': -np.ones((3, N, N), np.float32)}, 'negative'),
        ({'counts': np.ones((3, N, N))}, 'float64'),
        ({'counts': np.ones((2, N, N), np.float32)}, '2 inputs but 3 outputs'),
        ({'patches': np.zeros((3, 8, 8), np.complex64)}, 'zero'),
        ({'patches': np.full((3, 8, 8), np.nan, np.complex64)}, 'NaN'),
        ({'patches': np.ones((3, 8, 4), np.complex64)}, r'\(3, 8, 4\)'),
    ],
)
def test_c20_c22_a_useless_self_test_is_refused(change: dict[str, Any], fragment: str) -> None:
    good = _parts()['selftest']
    with pytest.raises(ModelFileError, match=fragment):
        SelfTest(**{'counts': good.counts, 'patches': good.patches, 'tolerance': 1e-6, **change})


# --- atomic writing


def test_c3_an_error_while_writing_leaves_the_old_file(bundle_file: Path) -> None:
    before = bundle_file.read_bytes()

    def interrupted(bundle: Bundle, counts: NDArray[np.float32]) -> NDArray[np.complex64]:
        assert len(list(bundle_file.parent.iterdir())) == 2  # the new file is complete but not yet named
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle_file, **{**_parts(seed=1), 'predict': interrupted})
    assert bundle_file.read_bytes() == before
    assert os.listdir(bundle_file.parent) == [bundle_file.name]


def test_c3_a_killed_process_leaves_the_old_file(bundle_file: Path) -> None:
    before = bundle_file.read_bytes()
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_bundle
        def killed(bundle, counts):
            os.kill(os.getpid(), signal.SIGKILL)
        test_bundle.write_bundle({str(bundle_file)!r}, **{{**test_bundle._parts(seed=1), 'predict': killed}})
    """
    result = subprocess.run([sys.executable, '-P', '-c', textwrap.dedent(program)], check=False, timeout=300)
    assert result.returncode == -signal.SIGKILL
    assert bundle_file.read_bytes() == before


def test_c3_overwriting_replaces_the_old_file(bundle_file: Path) -> None:
    write_bundle(bundle_file, **_parts(seed=1))
    np.testing.assert_array_equal(open_bundle(bundle_file).probe, _parts(seed=1)['probe'])


def test_c3_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / 'storage').mkdir()
    link = tmp_path / 'model.zip'
    link.symlink_to(tmp_path / 'storage' / 'real.zip')
    write_bundle(link, **_parts())
    assert link.is_symlink() and (tmp_path / 'storage' / 'real.zip').is_file()


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('not a folder')
    with pytest.raises(OutputError, match='Cannot write into the folder'):
        write_bundle(tmp_path / 'file' / 'model.zip', **_parts())
    with pytest.raises(OutputError, match='it is a folder'):
        write_bundle(tmp_path, **_parts())


@pytest.mark.parametrize(
    ('change', 'fragment'),
    [
        ({'weights': {}}, 'no weights'),
        ({'weights': {'gain': np.ones(2)}}, 'float64'),
        ({'weights': {'gain': np.array([1, np.inf], np.float32)}}, 'infinity'),
        ({'config': {'a': object()}}, 'object'),
        ({'config': {'a': float('inf')}}, 'inf'),
        ({'config': {1: 2}}, 'key 1'),
        ({'scaling': {'s': np.nan}}, 'nan'),
    ],
)
def test_c15_c17_what_is_not_fit_to_be_written_is_refused(
    tmp_path: Path, change: dict[str, Any], fragment: str
) -> None:
    with pytest.raises(ModelFileError, match=fragment):
        write_bundle(tmp_path / 'model.zip', **{**_parts(), **change})
    assert not list(tmp_path.iterdir())


# --- refusals


def _zip_bytes(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('content', 'fragment'),
    [
        (b'', 'empty'),
        (b'hello world', 'no zip file'),
        (pickle.dumps({'a': 1}), 'a pickle'),
        (b'\x89HDF\r\n\x1a\n' + bytes(64), 'HDF5'),
        (b'\x93NUMPY' + bytes(64), 'NumPy'),
        (_zip_bytes({'model/params.dill': b'\x80', 'model/wts.h5': b''}), 'original PtychoPINN'),
        (_zip_bytes({'wts.h5': b'\x89HDF'}), 'Keras'),
        (_zip_bytes({'last/data.pkl': b'\x80', 'last/version': b'3'}), r'checkpoint .* hand in the model\.zip'),
        (_zip_bytes({'readme.txt': b'hello'}), r'without manifest\.json'),
        (_zip_bytes({}), r'without manifest\.json'),
    ],
)
def test_c6_c8_c9_foreign_files_are_named(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / 'wts.h5.zip'
    path.write_bytes(content)
    assert re.search(fragment, _refused(path))


def test_c5_absent_folder_and_pipe(tmp_path: Path) -> None:
    assert 'There is no model bundle' in _refused(tmp_path / 'absent.zip')
    assert 'is a folder' in _refused(tmp_path)
    os.mkfifo(tmp_path / 'pipe')
    assert 'device or pipe' in _refused(tmp_path / 'pipe')


def test_c7_truncation_at_any_length(bundle_file: Path) -> None:
    data = bundle_file.read_bytes()
    for length in np.linspace(1, len(data) - 1, 40).astype(int):
        bundle_file.write_bytes(data[:length])
        _refused(bundle_file)


def test_c7_c14_no_changed_byte_gives_another_model(bundle_file: Path) -> None:
    """Wherever one byte is changed, the file is refused or its arrays are the same."""
    data, weights = bundle_file.read_bytes(), open_bundle(bundle_file).weights
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(data), 300):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        bundle_file.write_bytes(changed)
        try:
            read = open_bundle(bundle_file).weights
        except ModelFileError:
            refused += 1
        else:
            assert all(np.array_equal(read[name], weight) for name, weight in weights.items())
    assert refused > 250


def test_c14_an_altered_member_is_refused(bundle_file: Path) -> None:
    members = _members(bundle_file)
    weights = bytearray(members['weights.safetensors'])
    weights[-1] ^= 1
    _rewrite(bundle_file, {**members, 'weights.safetensors': bytes(weights)})
    assert 'altered' in _refused(bundle_file)


@pytest.mark.parametrize('name', ['../evil', 'a/../../evil', '/etc/evil', '..\\evil', 'C:evil'])
def test_c10_a_path_that_leaves_the_archive(bundle_file: Path, name: str) -> None:
    _rewrite(bundle_file, {**_members(bundle_file), name: b''})
    assert 'leaves the archive' in _refused(bundle_file)


@pytest.mark.filterwarnings('ignore:Duplicate name')  # zipfile's own warning at the forging of the file
def test_c10_a_member_named_twice(bundle_file: Path) -> None:
    with zipfile.ZipFile(bundle_file, 'a') as archive:
        archive.writestr('manifest.json', '{}')
    assert 'more than once' in _refused(bundle_file)


def test_c11_a_declared_size_of_4_gib(bundle_file: Path) -> None:
    """The central directory claims 4 GiB - 2 bytes, packed and unpacked, for a member of a few hundred."""
    data = bytearray(bundle_file.read_bytes())
    entry = data.rindex(b'PK\x01\x02')
    data[entry + 20 : entry + 28] = struct.pack('<II', 2**32 - 2, 2**32 - 2)
    bundle_file.write_bytes(data)
    assert 'absurd' in _refused(bundle_file)


def test_c11_more_than_4_gib(bundle_file: Path) -> None:
    """A zip64 entry in the central directory, whose sizes are forged to 5 GiB."""
    members = _members(bundle_file)
    with zipfile.ZipFile(bundle_file, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.getinfo('weights.safetensors').file_size = 5 * 2**30
        archive.getinfo('weights.safetensors').compress_size = 5 * 2**30
    assert str(5 * 2**30) in _refused(bundle_file)


def test_c11_a_zip_bomb(bundle_file: Path) -> None:
    members = {**_members(bundle_file), 'weights.safetensors': bytes(20_000_000)}
    _rewrite(bundle_file, members, compression=zipfile.ZIP_DEFLATED)
    assert 'absurd ratio' in _refused(bundle_file)


def test_c11_another_packing(bundle_file: Path) -> None:
    _rewrite(bundle_file, _members(bundle_file), compression=zipfile.ZIP_LZMA)
    assert 'packs or encrypts' in _refused(bundle_file)


@pytest.mark.parametrize('length', [2**62, 2**31, 10_000])
def test_c11_a_header_longer_than_the_member(bundle_file: Path, length: int) -> None:
    _forge(bundle_file, {'weights.safetensors': struct.pack('<Q', length) + b'{}' + bytes(64)})
    assert f'header of {length} bytes' in _refused(bundle_file)


@pytest.mark.parametrize('content', [b'', b'1234567', struct.pack('<Q', 2) + b'[]', struct.pack('<Q', 4) + b'nope'])
def test_c11_weights_that_are_no_safetensors_file(bundle_file: Path, content: bytes) -> None:
    _forge(bundle_file, {'weights.safetensors': content})
    assert 'weights.safetensors' in _refused(bundle_file)


@pytest.mark.parametrize('name', ['weights.safetensors', 'probe.safetensors', 'selftest.safetensors'])
def test_c12_a_missing_member(bundle_file: Path, name: str) -> None:
    _rewrite(bundle_file, {key: data for key, data in _members(bundle_file).items() if key != name})
    assert f"lacks its member '{name}'" in _refused(bundle_file)


def test_c12_an_unexpected_member(bundle_file: Path) -> None:
    _rewrite(bundle_file, {**_members(bundle_file), 'setup.py': b'raise SystemExit'})
    assert "'setup.py'" in _refused(bundle_file)


@pytest.mark.parametrize(
    ('manifest', 'fragment'),
    [
        (b'{', 'not JSON'),
        (b'\xff\xfe\x00', 'not JSON'),
        (b'[' * 100_000, 'not JSON'),
        (b'{"format": NaN}', 'NaN'),
        (b'[]', 'does not say format'),
        (b'{}', 'does not say format'),
        (b'{"format": "bioimage"}', 'does not say format'),
        (b'{"format": "ptychopinn-bundle"}', 'format version None'),
        (b'{"format": "ptychopinn-bundle", "format_version": 2}', 'format version 2'),
        (b'{"format": "ptychopinn-bundle", "format_version": true}', 'format version True'),
        (b'{"format": "ptychopinn-bundle", "format_version": 1}', 'does not fit the format'),
    ],
)
def test_c13_a_manifest_that_is_not_one(bundle_file: Path, manifest: bytes, fragment: str) -> None:
    _rewrite(bundle_file, {**_members(bundle_file), 'manifest.json': manifest})
    assert fragment in _refused(bundle_file)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('config', None),
        ('config', [1]),
        ('backend', 3),
        ('weights', []),
        ('weights', [{'name': 'gain', 'shape': [-2], 'dtype': 'float32'}]),
        ('weights', [{'name': 'gain', 'shape': [2], 'dtype': 'object'}]),
        ('members', {}),
        ('members', {'weights.safetensors': {'size': '12', 'sha256': 'x'}}),
        ('selftest', {'tolerance': 1.0, 'amplitude_range': 1.0, 'distance_to_fresh': 1.0}),
        ('versions', {'numpy': 2}),
        ('surplus', 1),
    ],
)
def test_c13_a_manifest_with_a_wrong_entry(bundle_file: Path, key: str, value: object) -> None:
    _forge(bundle_file, {}, lambda manifest: manifest.update({key: value}))
    assert f'does not fit the format: {key}' in _refused(bundle_file)


@pytest.mark.parametrize(
    ('edit', 'fragment'),
    [
        (lambda arrays: arrays.pop('bias'), "'bias' of '.*' is .* in the manifest but absent"),
        (lambda arrays: arrays.update(more=np.ones(3, np.float32)), "'more' .* absent in the manifest"),
        (lambda arrays: arrays.update(gain=np.ones((1, 2), np.float32)), r'\[2\] in the manifest but \[1, 2\]'),
        (lambda arrays: arrays.update(gain=np.ones(2, np.float64)), 'float64'),
        (lambda arrays: arrays.update(gain=np.array([1, np.nan], np.float32)), 'NaN'),
    ],
)
def test_c15_badload_weights_that_are_not_the_tables(
    bundle_file: Path, edit: Callable[[dict[str, Any]], object], fragment: str
) -> None:
    arrays = dict(open_bundle(bundle_file).weights)
    edit(arrays)
    _forge(bundle_file, {'weights.safetensors': _tensors(**arrays)})
    assert re.search(fragment, _refused(bundle_file))


def test_c15_a_weight_listed_twice(bundle_file: Path) -> None:
    _forge(bundle_file, {}, lambda manifest: manifest['weights'].append(manifest['weights'][0]))
    assert 'twice' in _refused(bundle_file)


def _bad_members() -> Iterator[Any]:
    ones = np.ones((MODES, N, N), np.float32)
    yield 'probe.safetensors', _tensors(probe_real=ones), 'probe_imag'
    yield 'probe.safetensors', _tensors(probe_real=ones, probe_imag=ones[:1]), 'different shapes'
    yield 'probe.safetensors', _tensors(probe_real=0 * ones, probe_imag=0 * ones), 'zero everywhere'
    yield (
        'probe.safetensors',
        _tensors(probe_real=ones[:, :8, :8].copy(), probe_imag=ones[:, :8, :8].copy()),
        '8 pixels',
    )
    counts, patches = np.ones((3, N, N), np.float32), np.ones((3, 8, 8), np.float32)
    yield 'selftest.safetensors', _tensors(counts=-counts, patches_real=patches, patches_imag=patches), 'negative'
    yield 'selftest.safetensors', _tensors(counts=counts[:2], patches_real=patches, patches_imag=patches), '2 inputs'
    yield 'selftest.safetensors', _tensors(counts=counts, patches_real=patches), 'patches_imag'


@pytest.mark.parametrize(('member', 'content', 'fragment'), list(_bad_members()))
def test_c16_a_probe_or_self_test_that_does_not_fit(
    bundle_file: Path, member: str, content: bytes, fragment: str
) -> None:
    _forge(bundle_file, {member: content})
    assert fragment in _refused(bundle_file)
