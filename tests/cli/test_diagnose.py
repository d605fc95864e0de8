"""`ptychopinn diagnose`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused, make_model, ok, run, told
from scans import small_scan

from ptychopinn_reconstructor.io import read_scan, write_npz


@pytest.fixture
def transposed(tmp_path: Path) -> Path:
    scan = replace(small_scan(probe='gaussian', step=3.0), object=None, on_object_grid=False)
    turned = np.ascontiguousarray(scan.diffraction.transpose(0, 2, 1))
    write_npz(tmp_path / 'scan.npz', replace(scan, diffraction=turned))
    return tmp_path / 'scan.npz'


def test_the_first_cause_is_named_and_the_mended_scan_written(transposed: Path, tmp_path: Path) -> None:
    values = told('diagnose', transposed, '--fix', tmp_path / 'mended.npz', '--output-dir', tmp_path / 'out')
    assert [finding['code'] for finding in values['findings']] == ['orientation']
    assert values['files']['mended scan'] == str(tmp_path / 'mended.npz')
    assert json.loads((tmp_path / 'out' / 'diagnosis.json').read_text())['findings'] == values['findings']
    before, after = read_scan(transposed).scan, read_scan(tmp_path / 'mended.npz').scan
    np.testing.assert_array_equal(after.diffraction, before.diffraction.transpose(0, 2, 1))


def test_the_page_says_what_to_do(transposed: Path) -> None:
    text = ok('diagnose', transposed).stdout
    assert text.startswith('1. orientation (certain): The patterns are transposed')
    assert '--fix does' in text and 'patterns transposed' in text


def test_a_target_of_another_kind_is_refused_before_any_work(transposed: Path, tmp_path: Path) -> None:
    assert_refused(
        run('diagnose', str(transposed), '--fix', str(tmp_path / 'mended.mat')), ('.npz, .cxi', 'mended.mat')
    )


def test_the_probe_is_compared_with_that_of_a_model(transposed: Path, tmp_path: Path) -> None:
    scan = read_scan(transposed).scan
    assert scan.probe is not None
    make_model(tmp_path / 'model.safetensors', {'diff3d': np.asarray(scan.diffraction), 'probeGuess': scan.probe})
    line = ('diagnose', transposed, '--seconds', '0', '--model', tmp_path / 'model.safetensors')
    assert told(*line)['findings'] == []
    np.save(tmp_path / 'conjugate.npy', scan.probe.conj() * np.exp(1j))
    (finding,) = told(*line, '--probe', tmp_path / 'conjugate.npy')['findings']
    assert finding['code'] == 'unlike_model' and 'complex conjugate' in finding['finding']
