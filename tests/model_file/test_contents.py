"""Manifests and arrays that do not fit, with a digest that agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import MODES, N, forge, joined, refused, split

from ptychopinn_reconstructor.model_file.format import canonicalize
from ptychopinn_reconstructor.model_file.opening import open_model


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
        header['__metadata__']['manifest'] = canonicalize(changed)
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
