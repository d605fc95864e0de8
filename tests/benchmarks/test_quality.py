"""How `make quality` counts: medians over seeds, differences and speeds against the best engine run, its report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptychopinn_reconstructor.io import read_scan

A = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'simulated_A.npz'
BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
ORIGIN = {'machine': 'one, 2 cores', 'day': '2026-11-27', 'commit': 'abc'}


def engine_run(seconds: float, phase: float, area: float) -> dict[str, Any]:
    return {'cpu_seconds': seconds, 'phase_psnr': phase, 'amplitude_psnr': 20.0, 'frc_area': area, 'passes': 3}


ENGINE = {
    'best phase_psnr': engine_run(3.0, 26.0, 0.7),
    'falling, 1 passes': engine_run(1.0, 20.0, 0.8),
    'falling, 2 passes': engine_run(3.0, 26.0, 0.7),
    'falling, 3 passes': engine_run(9.0, 25.0, 0.9),
    'textbook: falling, 9 passes': engine_run(12.0, 27.0, 0.6),
    'prior: best phase_psnr': engine_run(2.0, 29.0, 0.95),
}


def measured() -> list[dict[str, Any]]:
    """The lines of two seeds of a network on A, and of the engine."""
    from quality_tables import rows_of

    stages = {'prepare': 0.2, 'network': 0.7, 'refine': 0.6, 'residual': 5.0}
    found = rows_of('best engine, A', ORIGIN, ENGINE)
    for seed in (0, 1):
        row = {'phase_psnr': 24.0 + 2 * seed, 'amplitude_psnr': 21.0, 'frc_area': 0.85, 'stages': stages, 'other': None}
        figures = {'train': {'cpu_seconds': 60.0}, 'A network + 0': row, 'A network + 2': row}
        found += rows_of(f'net, seed {seed}', ORIGIN, figures)
    return found


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    from quality_tables import read, write

    rows = measured()
    assert rows[-1]['object_seconds'] == pytest.approx(1.5)  # what only judges the object is not counted
    write(tmp_path / 'results.csv', rows)
    assert read(tmp_path / 'results.csv') == rows and read(tmp_path / 'absent.csv') == []
    assert (tmp_path / 'results.csv').read_text().count('\n') == len(rows) + 1


def test_a_median_is_over_the_seeds_that_are_there() -> None:
    from quality_tables import medians

    found = {(row['case'], row['row']): row for row in medians(measured())}
    assert found['net, median of 2 seeds', 'A network + 2']['phase_psnr'] == 25.0
    assert found['best engine, A', 'falling, 3 passes']['frc_area'] == 0.9
    assert 'other' not in found['net, median of 2 seeds', 'A network + 0']


def test_the_engine_is_the_best_of_all_its_runs_and_its_time_that_to_be_equal() -> None:
    from quality_tables import against_engine

    first, second = against_engine(measured())
    assert (first['case'], first['row']) == ('net, seed 0', 'A network + 2')
    assert first['phase dB over engine'] == 24.0 - 27.0 and second['phase dB over engine'] == 26.0 - 27.0
    assert first['FRC area over engine'] == pytest.approx(0.85 - 0.9)
    assert first['phase dB over with prior'] == 24.0 - 29.0
    assert first['faster, phase'] == pytest.approx(3.0 / 1.5)
    assert 'faster than textbook, phase' not in first  # one run is no course of time
    assert first['faster, all three'] == float('inf')  # the engine's amplitude never gets there


def test_the_report_has_every_figure_in_its_section() -> None:
    from quality_tables import report

    text = report(measured())
    assert '| net, median of 2 seeds | A network + 2 | 25 | 21 | 0.85 |' in text
    assert '| net, median of 2 seeds | train | 60 |' in text.partition('## Trainings')[2]
    assert '| best engine, A | prior: best phase_psnr | 3 | 29 |' in text.partition('## The best of all runs')[2]
    assert 'falling, 1 passes' not in text and 'What the reliability figures are worth' not in text  # no such row


def test_the_kept_results_are_of_cases_that_exist_and_make_the_report() -> None:
    from quality import ALL_CASES
    from quality_tables import read, report

    rows = read(BENCHMARKS / 'results.csv')
    assert len(rows) > 500 and {row['case'] for row in rows} <= {*ALL_CASES}
    assert report(rows) == (BENCHMARKS / 'QUALITY.md').read_text(encoding='utf-8')


def _told(figures: dict[str, Any], _: Path) -> dict[str, Any]:
    return figures


def test_a_measurement_takes_the_place_of_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import quality
    from quality_tables import read

    table = tmp_path / 'results.csv'
    monkeypatch.setattr(quality, 'where_and_when', lambda: ORIGIN)
    for figure in (1.0, 2.0):
        first = {'row': {'residual': figure}}
        cases = {'first': partial(_told, first), 'later': partial(_told, {'row': {'residual': 9.0}})}
        monkeypatch.setattr(quality, 'ALL_CASES', cases)
        quality.measure_all(tmp_path, table, '*' if figure == 1.0 else 'first', force=figure == 2.0)
    assert [(row['case'], row['residual']) for row in read(table)] == [('first', 2.0), ('later', 9.0)]
    quality.measure_all(tmp_path, table, '*', force=False)
    assert len(read(table)) == 2 and (tmp_path / 'first.json').exists()


def test_only_runs_that_are_first_to_reach_their_figures_are_kept() -> None:
    from engine_best import front

    points = [engine_run(1, 20, 0.5), engine_run(2, 20, 0.5), engine_run(3, 19, 0.6), engine_run(4, 19, 0.55)]
    assert front(points) == [points[0], points[2]]


def test_numbers_of_passes_are_dense_first_and_end_with_the_last() -> None:
    from engine_best import scored_passes

    numbers = scored_passes(300, 1.06, 20)
    assert numbers[:20] == list(range(1, 21)) and numbers[-1] == 300 and len(numbers) < 75
    assert (np.diff(numbers) >= 1).all() and max(np.array(numbers[1:]) / numbers[:-1]) <= 2
    assert scored_passes(3, 1.5, 20) == [1, 2, 3] and scored_passes(1, 1.5, 3) == [1]


def test_a_schedule_ends_where_every_figure_had_its_best_long_ago() -> None:
    from engine_best import declined

    def point(passes: int, phase: float, area: float) -> dict[str, Any]:
        return {'passes': passes, 'phase_psnr': phase, 'amplitude_psnr': 20.0, 'frc_area': area}

    assert not declined([])  # no figures yet: nothing says that it is over
    points = [point(1, 20, 0.5), point(10, 25, 0.6), point(20, 24, 0.7)]
    assert not declined([*points, point(70, 23, 0.6)])  # the area's best: 20 passes
    assert declined([*points, point(71, 23, 0.6)])
    assert not declined([*points, point(71, 26, 0.6)])


def test_an_uncertainty_correlates_with_the_errors_that_it_foretells() -> None:
    from reliability_worth import correlation

    errors = np.random.default_rng(0).standard_normal((64, 64)) * np.linspace(0.1, 1, 64)
    uncertainty = 2 * np.abs(errors)
    uncertainty[:8] = np.nan
    assert correlation(uncertainty, errors) > 0.99
    assert correlation(3 - uncertainty, errors) < -0.9
    assert abs(correlation(uncertainty.T[:, ::-1][::-1], errors)) < 0.5


@pytest.mark.skipif(not A.exists(), reason=f'the shared data are not at {A}')
def test_the_wrong_scans_are_wrong_by_what_they_say(tmp_path: Path) -> None:
    """The pupil keeps its modulus; its phase is that of a defocus of 1.2 times that of A's probe."""
    from quality_reach import DEFOCUS, wrong_scan
    from scipy import fft

    from ptychopinn_reconstructor.physics.probes import make_probe

    true = read_scan(A).scan
    wrong = read_scan(wrong_scan(tmp_path, probe=True, positions=True)).scan
    assert wrong.probe is not None and true.probe is not None
    pupils = [
        fft.fftshift(fft.fft2(fft.ifftshift(p)))
        for p in (true.probe[0], wrong.probe[0], make_probe('defocused', 64)[0])
    ]
    np.testing.assert_allclose(np.abs(pupils[1]), np.abs(pupils[0]), atol=1e-3 * np.abs(pupils[0]).max())
    k = np.hypot(*(np.indices((64, 64)) - 32)) / 64
    bright = np.abs(pupils[0]) > 0.5 * np.abs(pupils[0]).max()
    for pupil, share in zip(pupils, (1.0, 1.2, 1.0), strict=True):
        flat = (pupil * np.exp(-1j * np.pi * share * DEFOCUS * k**2))[bright]
        assert abs(flat.sum()) == pytest.approx(np.abs(flat).sum(), rel=1e-4)
    assert np.std(wrong.positions - true.positions) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(wrong.diffraction, true.diffraction)
