"""Going on from an earlier result: its object is placed by its positions, its probe taken, or it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.errors import ConfigError, ScanError
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.earlier_result import place_object, read_earlier_result
from ptychopinn_reconstructor.reconstruction.finish import Result
from ptychopinn_reconstructor.scan import Scan


def refine(scan: Scan, passes: int, initial: Path | None = None, **inference: bool) -> Result:
    config = pp.Config().merged({'refinement': {'passes': passes, 'wavefront': False}, 'inference': inference})
    return pp.refine(scan, config, initial=initial)


@pytest.fixture(scope='module')
def scan() -> Scan:
    return simulate(n=32, positions=100, step=4, seed=1)


@pytest.fixture(scope='module')
def product(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of five passes, as a product."""
    folder = tmp_path_factory.mktemp('result')
    pp.write_result(folder, refine(scan, 5).reconstruction, {})
    return folder / 'product.h5'


def test_the_command_goes_on_from_a_result(scan: Scan, product: Path, tmp_path: Path) -> None:
    write_npz(tmp_path / 'scan.npz', scan)
    line = ['refine', str(tmp_path / 'scan.npz'), '--initial', str(product), '--output-dir', str(tmp_path / 'r')]
    result = run(*line, '--passes', '1')
    assert result.exit_code == 0 and f'Goes on from the object and probe of {product}' in result.stdout
    metrics = json.loads((tmp_path / 'r' / 'metrics.json').read_text())
    assert metrics['initial'] == str(product) and metrics['probe_source'] == 'earlier_result'


@pytest.mark.parametrize('place', ['file', 'folder'])
def test_a_result_is_polished(scan: Scan, product: Path, place: str) -> None:
    again = refine(scan, 2, product if place == 'file' else product.parent)
    fresh = refine(scan, 2)
    assert again.report.residual < 0.8 * fresh.report.residual
    run = again.report.run
    assert run.probe_source == 'earlier_result' and run.initial is not None and fresh.report.run.initial is None
    assert any(notice.code == 'earlier_result' and 'object and probe' in notice.text for notice in again.report.notices)


def test_the_object_comes_back_to_its_canvas_as_it_was(scan: Scan, product: Path) -> None:
    earlier = read_earlier_result(product, scan)
    canvas, _ = place_object(earlier, prepare_scan(scan, probe=earlier.probe))
    original = pp.read_product(product).object
    scale = np.abs(canvas).mean() / np.abs(original).mean()
    assert scale == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(canvas, scale * original, atol=1e-3)


def test_positions_may_have_lost_a_constant_and_patterns(scan: Scan, product: Path) -> None:
    """Half a pixel off the old grid: the object is interpolated, and fits as well."""
    moved = replace(scan, positions=scan.positions + np.array([10.5, -3.0]), object=None)
    canvas, _ = place_object(read_earlier_result(product, moved), prepare_scan(moved))
    kept = refine(moved, 1, product).report.residual
    assert kept < 1.3 * refine(scan, 1, product).report.residual and canvas.shape == prepare_scan(moved).layout.shape
    part = replace(scan, diffraction=scan.diffraction[20:], positions=scan.positions[20:], scan_index=None, object=None)
    assert refine(part, 1, product).report.residual < 1.3 * refine(scan, 1, product).report.residual


def test_another_share_of_power_is_brought_to_the_counts(scan: Scan, product: Path, tmp_path: Path) -> None:
    """As other programs may share it: an object twice as strong, in an NPZ file without a probe of its own."""
    result = pp.read_product(product)
    path = tmp_path / 'object.npz'
    write_npz(path, replace(scan, object=2 * result.object, object_origin=result.origin))
    earlier = read_earlier_result(path, scan)
    canvas, notice = place_object(replace(earlier, probe=None), prepare_scan(scan))
    inside = np.s_[20:-20, 20:-20]
    assert np.abs(canvas[inside]).mean() == pytest.approx(np.abs(result.object[inside]).mean(), rel=0.03)
    assert 'amplitude times 0.5' in notice.text and 'the object of' in notice.text


def test_a_result_that_does_not_fit_is_refused(scan: Scan, product: Path, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r'patterns of 32 pixels.*N = 48'):
        refine(simulate(n=48, positions=100, step=4), 1, product)
    sized = replace(scan, pixel_size=(2e-8, 2e-8))
    pp.write_result(
        tmp_path, replace(pp.read_product(product), pixel_size=(1e-8, 1e-8), pixel_size_is_nominal=False), {}
    )
    with pytest.raises(ScanError, match=r'pixels of 10 x 10 nm.*20 x 20 nm'):
        refine(sized, 1, tmp_path)
    shuffled = replace(scan, positions=scan.positions[::-1])
    with pytest.raises(ScanError, match='differ from those of the scan by'):
        refine(shuffled, 1, product)
    far = replace(scan, positions=scan.positions[:50] + 500, diffraction=scan.diffraction[:50], scan_index=None)
    with pytest.raises(ScanError, match='covers 0% of the area'):
        refine(replace(far, object=None), 1, product)
    with pytest.raises(ConfigError, match='split_frc compares halves'):
        refine(scan, 1, product, split_frc=True)
    with pytest.raises(ScanError, match='no file'):
        refine(scan, 1, tmp_path / 'absent.h5')
