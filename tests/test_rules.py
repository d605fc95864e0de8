"""Rules of specs/rules.md that have no home in the test of one module."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import Case, empty
from scans import short_config, small_scan

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ConfigError, InputError
from ptychopinn_reconstructor.events import Epoch
from ptychopinn_reconstructor.io import read_object, read_probe, read_scan, write_npz
from ptychopinn_reconstructor.model_file.opening import Model, open_model
from ptychopinn_reconstructor.model_file.trained import verify_model
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.scaling import probe_power
from ptychopinn_reconstructor.physics.scoring.metrics import check_truth, compare
from ptychopinn_reconstructor.reconstruction.writing import write_result
from ptychopinn_reconstructor.scan import Scan
from ptychopinn_reconstructor.training.setup import split_scan


def refined(case: Case, mode: Any, factor: float = 1.0) -> tuple[float, float]:
    """Amplitude ratio to the truth after the engine alone, and after two passes from the truth in its gauge."""
    prepared = prepare_scan(
        Scan(diffraction=case.counts, positions=case.positions, probe=(case.probe * factor).astype(np.complex64)),
        mode=mode,
    )
    gauge = 1.0 if mode == 'absolute' else illuminated_rms(case)
    truth = (case.truth / gauge).astype(np.complex64)
    canvases = (
        refine(prepared, empty(prepared), RefineOptions.for_scan(15)).canvas,
        refine(prepared, truth, RefineOptions.for_scan(2)).canvas,
    )
    one, two = (compare(c, case.origin, truth, case.origin, case.positions).amplitude_ratio for c in canvases)
    return one, two


def illuminated_rms(case: Case) -> float:
    """Root mean square amplitude of the truth, weighted by the light that falls on it."""
    light = np.zeros(case.truth.shape)
    side = case.probe.shape[-1]
    for row, col in np.rint(case.positions - case.positions.min(axis=0)).astype(int):
        light[row : row + side, col : col + side] += (np.abs(case.probe) ** 2).sum(axis=0)
    return float(np.sqrt((light * np.abs(case.truth) ** 2).sum() / light.sum()))


@pytest.mark.parametrize(
    ('mode', 'factor', 'photons'),
    [
        ('absolute', 1.0, 1e3),
        ('absolute', 1.0, 1e7),
        ('from_counts', 0.013, 1e4),
        ('from_counts', 200.0, 1e6),
        pytest.param('absolute', 1.0, 1e5, marks=pytest.mark.slow),
        pytest.param('from_counts', 0.013, 1e7, marks=pytest.mark.slow),
        pytest.param('from_counts', 200.0, 1e3, marks=pytest.mark.slow),
    ],
)
def test_the_amplitude_is_absolute_at_every_dose(photons: float, mode: str, factor: float) -> None:
    """AMPLITUDE: 1.00 +- 0.02 from 1e3 to 1e7 photons; from_counts whatever the unit of the probe handed in."""
    for ratio in refined(Case(photons, side=14, noise=True), mode, factor):
        assert ratio == pytest.approx(1.0, abs=0.02)


def test_image_metrics_state_their_ranges() -> None:
    """METRICS: PSNR falls by 20 dB for ten times the error, at the range that is reported; the raw phase is there."""
    truth = np.exp(0.5j * np.sin(np.arange(64 * 64).reshape(64, 64) / 7.0))
    positions = np.array([[8.0, 8.0], [55.0, 55.0]])
    rng = np.random.default_rng(0).normal(size=truth.shape)
    small, large = (
        compare(truth * np.exp(1j * s * rng), (0.0, 0.0), truth, (0.0, 0.0), positions) for s in (0.01, 0.1)
    )
    values = small.to_dict()
    assert values['phase_range_rad'] == 2.4 and values['amplitude_range'] == 0.4
    assert small.phase_psnr == pytest.approx(20 * np.log10(2.4 / 0.01), abs=0.3)
    assert small.phase_psnr - large.phase_psnr == pytest.approx(20.0, abs=0.2)
    turned = compare(1j * truth, (0.0, 0.0), truth, (0.0, 0.0), positions)
    assert turned.phase_mae < 1e-6 and turned.phase_mae_raw == pytest.approx(np.pi / 2)


def test_a_truth_that_cannot_be_compared_with_is_found_before_any_work() -> None:
    """METRICS: the same sentence as when comparing."""
    positions = np.array([[8.0, 8.0], [55.0, 70.0]])
    truth = np.ones((64, 64), np.complex64)
    with pytest.raises(InputError) as early:
        check_truth(truth, (0.0, 0.0), positions)
    with pytest.raises(InputError) as late:
        compare(truth, (0.0, 0.0), truth, (0.0, 0.0), positions)
    assert str(early.value) == str(late.value) and 'columns' in str(early.value)
    check_truth(np.ones((64, 80), np.complex64), (0.0, 0.0), positions)


# From here on a backend is needed.


def config_of(**changes: Any) -> Config:
    """A few short epochs on the CPU; `changes` are 'section__field' values."""
    return short_config(**{'training__nepochs': 3} | changes)


@pytest.fixture(scope='module')
def scan(backend_name: str) -> Scan:
    return small_scan(positions=64)


def trained(scan: Scan, folder: Path, **changes: Any) -> Model:
    return open_model(pp.train([scan], config_of(**changes), folder).model)


def test_text_paths_and_numpy_scalars_are_accepted(scan: Scan, tmp_path: Path) -> None:
    """TYPES: str and Path, numpy and Python scalars, from the file to the result, give the same object."""
    write_npz(str(tmp_path / 'scan.npz'), scan)
    one, two = read_scan(str(tmp_path / 'scan.npz')).scan, read_scan(tmp_path / 'scan.npz').scan
    assert np.array_equal(read_probe(str(tmp_path / 'scan.npz')), read_probe(tmp_path / 'scan.npz'))
    assert np.array_equal(read_object(str(tmp_path / 'scan.npz')).object, read_object(tmp_path / 'scan.npz').object)
    plain = config_of(training__learning_rate=1e-3, refinement__passes=1)
    numbers = config_of(
        training__learning_rate=np.float64(1e-3),
        training__batch_size=np.int64(16),
        refinement__passes=np.int32(1),
    )
    assert plain == numbers
    text = pp.train([one], numbers, str(tmp_path / 'text'), sources=['scan.npz']).model
    path = pp.train([two], plain, tmp_path / 'path').model
    first = pp.reconstruct(one, str(text), numbers)
    second = pp.reconstruct(two, path, plain)
    assert np.array_equal(first.reconstruction.object, second.reconstruction.object)
    values = {'residual': np.float32(first.report.residual)}
    files = write_result(str(tmp_path / 'result'), first.reconstruction, values)
    assert all(file.stat().st_size for file in files.values())
    assert verify_model(str(text)).difference <= 1e-5
    assert open_model(text).manifest.training.scans == ('scan.npz',)


def test_the_logger_none_writes_no_table_and_loses_no_loss(scan: Scan, tmp_path: Path) -> None:
    """LOGGER: csv has a row an epoch; with none the losses are still in the model."""
    found = {kind: trained(scan, tmp_path / kind, execution__logger_backend=kind) for kind in ('csv', 'none')}
    with (tmp_path / 'csv' / 'metrics.csv').open(newline='') as lines:
        rows = [float(row['train_loss']) for row in csv.DictReader(lines)]
    assert not (tmp_path / 'none' / 'metrics.csv').exists()
    for one in found.values():
        assert [value for _, value in one.manifest.training.losses] == pytest.approx(rows)


def test_probe_power_and_domain_change_the_object(scan: Scan) -> None:
    """SETTINGS, AMPLITUDE: from_counts raises the amplitude of an absorbing object to a root mean square near 1."""
    found = {}
    for mode in ('absolute', 'from_counts'):
        result = pp.refine(scan, config_of(data__probe_power=mode, refinement__passes=15)).reconstruction
        inside = result.object[scan_area(result.positions, result.origin)]
        found[mode] = float(np.sqrt((np.abs(inside) ** 2).mean()))
    assert scan.probe is not None
    q = scan.mean_counts / probe_power(scan.probe)
    assert found['from_counts'] == pytest.approx(1.0, abs=0.06)
    assert found['absolute'] / found['from_counts'] == pytest.approx(np.sqrt(q), abs=0.02)


def test_a_trained_scale_is_used_when_reconstructing(scan: Scan, tmp_path: Path) -> None:
    """SETTINGS: intensity_scale_trainable is folded into the model's probe, which then takes the scan's place."""
    assert scan.probe is not None
    brighter = scan.with_probe(scan.probe * 1.03)
    model = pp.train([brighter], config_of(training__intensity_scale_trainable=True), tmp_path).model
    opened = open_model(model)
    change = float(np.sqrt(probe_power(opened.probe) / probe_power(scan.probe * 1.03)))
    assert 0.95 < change < 1.05 and abs(change - 1) > 1e-4
    for power in ('auto', 'from_counts'):
        result = pp.reconstruct(brighter, model, config_of(data__probe_power=power))
        assert result.report.run.probe_source == 'model'
        np.testing.assert_allclose(result.reconstruction.probe, opened.probe, rtol=1e-6)
    assert pp.reconstruct(scan, model, config_of()).report.run.probe_source == 'scan'


def test_the_models_probe_follows_the_dose_of_another_scan(scan: Scan, tmp_path: Path) -> None:
    """AMPLITUDE: a model trained in the gauge serves a scan of four times the exposure that holds no probe."""
    model = pp.train([scan], config_of(data__probe_power='from_counts'), tmp_path).model
    counts = scan.diffraction.astype(np.uint32) * 4  # a factor that would be divided out
    longer = replace(scan, diffraction=counts, probe=None, as_is=True)
    result = pp.reconstruct(longer, model, config_of(data__probe_power='from_counts'))
    power = probe_power(result.reconstruction.probe)
    assert power == pytest.approx(longer.mean_counts, rel=1e-4)
    assert any('no probe' in notice.text for notice in result.report.notices)


def test_too_few_patterns_for_a_region_are_found_before_anything_is_written(tmp_path: Path, scan: Scan) -> None:
    """GROUPING: the sentence says how many are needed, and an earlier training is not touched."""
    for change, needed in (({'model__gridsize': 8}, 64), ({'data__n_subsample': 5}, 8)):
        few = replace(scan, diffraction=scan.diffraction[:40], positions=scan.positions[:40], scan_index=None)
        with pytest.raises(ConfigError, match=f'A region needs {needed} patterns'):
            pp.train([few], config_of(**change), tmp_path)
        assert list(tmp_path.iterdir()) == []
    prepared = prepare_scan(few, stride=16)
    alone = split_scan(prepared, config_of(data__n_subsample=5, model__object_big=False))
    assert 1 <= len(alone.training) <= 5


def test_a_refined_probe_serves_all_scans_that_came_with_the_guess(scan: Scan, tmp_path: Path) -> None:
    """SETTINGS: refine_probe_first; a validation scan with the old guess would choose the best epoch by nonsense."""
    assert scan.probe is not None
    y, x = np.mgrid[:32, :32] - 15.5
    guess = (scan.probe * np.exp(0.02j * (x**2 + 0.5 * y**2))).astype(np.complex64)
    held_out = small_scan(positions=64, seed=5)

    def validation_loss(probe: np.ndarray, name: str) -> float:
        config = config_of(training__refine_probe_first=10)
        rows: list[float | None] = []
        pp.train(
            [scan.with_probe(guess)],
            config,
            tmp_path / name,
            validation=held_out.with_probe(probe),
            emit=lambda event: rows.append(event.val_loss) if isinstance(event, Epoch) else None,
        )
        assert rows[-1] is not None
        return rows[-1]

    # A thousandth more is the same probe to the eye, but not the guess that was refined.
    assert validation_loss(guess, 'same') < 0.9 * validation_loss(guess * np.float32(1.001), 'other')
