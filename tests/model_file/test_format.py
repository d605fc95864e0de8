"""Files that are none of ours, damaged ones, and headers that are not to be believed, refused by name."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import ARRAYS, joined, refused, split

from ptychopinn_reconstructor.model_file.format import MAX_FILE, MAX_HEADER
from ptychopinn_reconstructor.model_file.opening import open_model


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
