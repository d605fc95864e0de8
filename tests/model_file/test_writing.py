"""What is written to a model file is what is read from it, and an earlier file stays until then."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from model_files import ARRAYS, MODES, N, description, parts, split
from numpy.typing import NDArray

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError, OutputError
from ptychopinn_reconstructor.model_file.format import decode, encode
from ptychopinn_reconstructor.model_file.opening import Model, inspect_model, open_model
from ptychopinn_reconstructor.model_file.writing import write_model

FOREIGN = {'torch', 'lightning', 'tensorflow', 'keras', 'matplotlib', 'scipy', 'h5py', 'skimage', 'PyQt5', 'ptychodus'}


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


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
