"""`refinement.auto`: what the diagnosis of a scan finds is mended or refined, and a sound scan stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.finish import Result
from ptychopinn_reconstructor.scan import Scan


def refine(scan: Scan, **settings: object) -> Result:
    return pp.refine(scan, pp.Config().merged({'refinement': {'passes': 8, **settings}}))


def score(result: Result, truth: Scan) -> float:
    made = result.reconstruction
    assert truth.object is not None
    return compare(made.object, made.origin, truth.object, truth.object_origin, truth.positions).phase_psnr


@pytest.fixture(scope='module')
def sound() -> Scan:
    return simulate(positions=144, photons=1e5, seed=3)


@pytest.mark.slow
def test_a_transposed_detector_is_turned_back(sound: Scan) -> None:
    turned = replace(sound, diffraction=np.swapaxes(np.asarray(sound.diffraction), 1, 2).copy(), object=None)
    asked = refine(turned, auto=True)
    assert score(asked, sound) > score(refine(turned), sound) + 8
    (notice,) = (notice for notice in asked.report.notices if notice.code == 'diagnosed')
    assert 'The patterns are transposed' in notice.text and 'Mended.' in notice.text


def test_a_sound_scan_stays_as_it_is(sound: Scan) -> None:
    scan = replace(sound, object=None)
    asked, plain = refine(scan, auto=True), refine(scan)
    assert np.array_equal(asked.reconstruction.object, plain.reconstruction.object)
    (notice,) = (notice for notice in asked.report.notices if notice.code == 'diagnosed')
    assert notice.text == 'Diagnosis: nothing is wrong with the scan.'
    assert 'diagnosed' not in {notice.code for notice in plain.report.notices}
