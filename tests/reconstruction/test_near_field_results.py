"""Scans of the near field through reconstruction: the engine takes them, networks and diagnosis refuse them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.diagnosis.diagnose import diagnose
from ptychopinn_reconstructor.errors import ScanError
from ptychopinn_reconstructor.io import read_product, write_product
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.reconstruct import refine_scan
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.train import train


@pytest.fixture(scope='module')
def scan() -> Scan:
    return simulate(n=64, positions=49, step=8.0, photons=4e6, probe='diffuser', fresnel_number=0.05, seed=2)


def test_the_engine_takes_it_and_the_product_says_so(scan: Scan, tmp_path: Path) -> None:
    """P30, D34: a good verdict, nothing mended, and a product that is read again as near field."""
    result = refine_scan(scan, Config())
    verdict = result.report.run.verdict
    assert verdict is not None and verdict.word == 'good'
    assert any('Fresnel number is 0.05 a pixel' in notice.text for notice in result.report.notices)
    codes = {notice.code for notice in result.report.notices}
    assert not codes & {'hot_pixels', 'dark_pixels', 'single_hits', 'beam_offset', 'lost_frames', 'count_factor'}
    write_product(tmp_path / 'product.h5', result.reconstruction)
    with h5py.File(tmp_path / 'product.h5') as file:
        assert not file.attrs['far_field']
    assert read_product(tmp_path / 'product.h5').metadata['fresnel_number'] == (0.05, 0.05)


def test_faults_are_named(scan: Scan) -> None:
    """Hot pixels are masked, a wrong Fresnel number is no good verdict."""
    counts = np.array(scan.diffraction, dtype=np.uint32)
    counts[:, 20, 30] = counts[:, 40, 11] = 60000
    hot = refine_scan(replace(scan, diffraction=counts), Config())
    assert 'hot_pixels' in {notice.code for notice in hot.report.notices}
    wrong = refine_scan(scan, Config().merged({'refinement': {'fresnel_number': 0.06}}))
    verdict = wrong.report.run.verdict
    assert verdict is not None and verdict.word != 'good'


def test_networks_and_the_diagnosis_refuse_it(scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match='near field'):
        train([scan], Config(), tmp_path)
    with pytest.raises(ScanError, match='near field'):
        diagnose(scan)
    with pytest.raises(ScanError, match='leave auto out'):
        refine_scan(scan, Config().merged({'refinement': {'auto': True}}))
