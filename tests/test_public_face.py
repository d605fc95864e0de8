"""`import ptychopinn_reconstructor as pp`: every name of the front page, lazily, and a reconstruction in six lines."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.io import write_npz

LIGHT = """
import sys
import ptychopinn_reconstructor as pp
pp.Config
print(sorted({name.partition('.')[0] for name in sys.modules} & {*sys.argv[1:]}))
"""


def test_every_name_is_there_and_another_is_an_error() -> None:
    assert len(pp.__all__) == len({*pp.__all__}) > 10
    for name in pp.__all__:
        assert getattr(pp, name) is getattr(pp, name) is not None
    assert {*pp.__all__} <= {*dir(pp)}
    with pytest.raises(AttributeError, match="'ptychopinn_reconstructor' has no attribute 'recontruct'"):
        _ = pp.recontruct


def test_the_names_are_those_of_their_homes() -> None:
    for name, home in (
        ('Config', 'config'),
        ('Scan', 'scan'),
        ('read_scan', 'io'),
        ('train', 'training.train'),
        ('pretrain', 'training.pretraining'),
        ('reconstruct', 'reconstruction.reconstruct'),
    ):
        assert getattr(pp, name) is getattr(import_module(f'{pp.__name__}.{home}'), name)
    assert issubclass(pp.PtychoPINNError, Exception) and pp.__version__[0].isdigit()


def test_looking_a_setting_up_loads_nothing_heavy() -> None:
    heavy = ['torch', 'lightning', 'tensorflow', 'keras', 'scipy', 'h5py', 'matplotlib', 'PyQt5', 'ptychodus', 'rich']
    done = subprocess.run(
        [sys.executable, '-P', '-c', LIGHT, *heavy], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == '[]', done.stderr or done.stdout


def test_a_scan_is_trained_on_and_reconstructed_in_six_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend_name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / 'scan.npz', small_scan(positions=64))
    settings = short_config(training__nepochs=1, model__n_filters_scale=0.5)
    # The six lines, with settings for a test.
    scan = pp.read_scan('scan.npz').scan
    model = pp.train([scan], settings, 'model').model
    result = pp.reconstruct(scan, model, settings)
    pp.write_result('result', result.reconstruction, {})

    assert os.path.samefile(model.parent, tmp_path / 'model')
    product = pp.read_product(tmp_path / 'result' / 'product.h5')
    np.testing.assert_array_equal(product.object, result.reconstruction.object)
    assert pp.open_model(model).manifest.backend == backend_name
    assert np.ptp(np.abs(product.object)) > 0.01
