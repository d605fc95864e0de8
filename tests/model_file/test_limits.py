"""Where the limits of a model file lie: on both sides of each."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import forge, joined, refused, split

from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.model_file import format as model_format
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.model_file.self_test import SelfTest
from ptychopinn_reconstructor.model_file.training_range import TrainingRange

NONE: dict[str, Any] = {'counts': None, 'probe_power': None, 'overlap': None}


def codes(trained: dict[str, Any], scan: dict[str, Any]) -> list[str]:
    """What is said of a scan unlike the training."""
    return [notice.code for notice in TrainingRange(**NONE | trained).list_departures(TrainingRange(**NONE | scan))]


@pytest.mark.parametrize(
    ('scan', 'far'),
    [
        ((5.0, 300.0), False), ((5.0, 301.0), True), ((4.0, 50.0), False), ((3.0, 50.0), True),
        ((10 / 3, 299.0), False), ((150.0, 299.0), False), ((4.0, 4.0), False),
    ],
)  # fmt: skip
def test_a_dose_is_far_beyond_three_times_the_range(scan: tuple[float, float], far: bool) -> None:
    """From 10 to 100: below 10/3 or above 300, by either end of the scan's own range."""
    assert codes({'counts': (10.0, 100.0)}, {'counts': scan}) == ['dose'] * far
    assert codes({'probe_power': (10.0, 100.0)}, {'probe_power': scan}) == ['probe_power'] * far


@pytest.mark.parametrize(
    ('scan', 'told'), [((0.44, 0.9), True), ((0.46, 0.46), False), ((0.9, 0.95), False), ((0.5, 0.5), False)]
)
def test_a_scan_is_sparse_by_the_smallest_overlap(scan: tuple[float, float], told: bool) -> None:
    """Of the training, .6 to .8, and of the scan: .15 below are allowed."""
    assert codes({'overlap': (0.6, 0.8)}, {'overlap': scan}) == ['overlap'] * told


def test_an_overlap_is_told_as_the_range_it_is() -> None:
    trained = TrainingRange(**NONE | {'overlap': (0.6, 0.8)})
    (notice,) = trained.list_departures(TrainingRange(**NONE | {'overlap': (0.3, 0.9)}))
    assert 'overlap by 30% but the model was trained on 60% to 80%;' in notice.text


@pytest.mark.parametrize(('counts', 'accepted'), [(256, True), (257, False)])
def test_a_self_test_has_256_patterns_at_most(counts: int, accepted: bool) -> None:
    patterns, patches = np.ones((counts, 4, 4), np.float32), np.ones((counts, 2, 2), np.complex64)
    if accepted:
        assert len(SelfTest(patterns, patches).counts) == counts
    else:
        with pytest.raises(ModelFileError, match=r'has 257 inputs .* 256 at most'):
            SelfTest(patterns, patches)


@pytest.mark.parametrize('limit', ['MAX_HEADER', 'MAX_FILE', 'MAX_TENSORS'])
def test_a_limit_is_the_largest_that_is_read(model_file: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header, _ = split(model_file.read_bytes())
    length = int.from_bytes(model_file.read_bytes()[:8], 'little')
    size = {'MAX_HEADER': length, 'MAX_FILE': model_file.stat().st_size, 'MAX_TENSORS': len(header) - 1}[limit]
    monkeypatch.setattr(model_format, limit, size)
    open_model(model_file)
    monkeypatch.setattr(model_format, limit, size - 1)
    assert f'{size}' in refused(model_file) and f'more than {size - 1}' in refused(model_file)


def test_a_header_that_fills_its_file_is_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / 'model.safetensors'
    path.write_bytes(joined(b'{"a":"b"}', b''))
    assert 'without the manifest' in refused(path)


def test_a_header_that_lacks_its_last_bytes_is_truncated(model_file: Path) -> None:
    data = model_file.read_bytes()
    length = int.from_bytes(data[:8], 'little')
    for missing in (1, 8, 15):
        model_file.write_bytes(data[: 8 + length - missing])
        assert f'has {8 + length - missing} bytes but its header alone {length}' in refused(model_file)


@pytest.mark.parametrize(('padding', 'damaged'), [(b'  ', False), (b'X', True), (b' X', True), (b'\n', True)])
def test_a_header_is_padded_with_spaces_alone(model_file: Path, padding: bytes, damaged: bool) -> None:
    header, body = split(model_file.read_bytes())
    model_file.write_bytes(joined(json.dumps(header).encode() + padding, body))
    if damaged:
        assert "The header of '" in refused(model_file) and 'is damaged' in refused(model_file)
    else:
        open_model(model_file)


@pytest.mark.parametrize(
    ('entry', 'words'),
    [(5, "array 'x' of .* has a bad entry"), ({'dtype': 'F32', 'shape': [1]}, 'has a bad data_offsets')],
)
def test_an_array_that_is_described_badly_is_named(model_file: Path, entry: object, words: str) -> None:
    header, body = split(model_file.read_bytes())
    model_file.write_bytes(joined(header | {'x': entry}, body))
    with pytest.raises(ModelFileError, match=words):
        open_model(model_file)


@pytest.mark.parametrize(
    ('text', 'name'),
    [(b'{"a":1,"b":2,"b":3}', 'b'), (b'{"a":1,"b":2,"a":3}', 'a'), (b'{"a":{"c":1,"d":1,"d":1}}', 'd')],
)
def test_the_key_that_is_there_twice_is_named(tmp_path: Path, text: bytes, name: str) -> None:
    path = tmp_path / 'model.safetensors'
    path.write_bytes(joined(text, bytes(64)))
    assert f"The header of '{path}' is damaged ('{name}' is there twice)" in refused(path)


@pytest.mark.parametrize('name', ['a.dill', 'a.PKL', 'b/a.pickle', 'a.joblib'])
def test_archives_that_only_running_code_could_read_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / 'model.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(name, b'')
    assert f"original PtychoPINN (it holds '{name}')" in refused(path)


def test_a_model_whose_parts_are_not_as_many_as_it_says_is_refused(model_file: Path) -> None:
    forge(model_file, lambda manifest: manifest['architecture'].update(parameters=7))
    assert 'parameters, not 7' in refused(model_file)
