"""How `make quality` counts: medians over seeds, differences and speeds against the best engine run, goals met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptychopinn_reconstructor.io import read_scan

A = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'simulated_A.npz'
POINTS = [
    {'cpu_seconds': 1.0, 'phase_psnr': 20.0, 'frc_area': 0.8},
    {'cpu_seconds': 3.0, 'phase_psnr': 26.0, 'frc_area': 0.7},
    {'cpu_seconds': 9.0, 'phase_psnr': 25.0, 'frc_area': 0.9},
]
TEXTBOOK = [{'cpu_seconds': 12.0, 'phase_psnr': 27.0, 'frc_area': 0.6}]
PRIOR = [{'cpu_seconds': 2.0, 'phase_psnr': 29.0, 'frc_area': 0.95}]
ENGINE = {
    'all runs': {'points': POINTS},
    'textbook: all runs': {'points': TEXTBOOK},
    'prior: all runs': {'points': PRIOR},
}


@pytest.fixture
def found() -> dict[str, Any]:
    """Two of three seeds, and an engine."""
    stages = {'prepare': 0.2, 'network': 0.7, 'refine': 0.6, 'residual': 5.0}
    rows = [{'phase_psnr': 24.0 + 2 * seed, 'frc_area': 0.85, 'stages': stages} for seed in (0, 1)]
    return {f'net, seed {seed}': {'row': row} for seed, row in enumerate(rows)} | {'engine': ENGINE}


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / 'benchmarks'))


def test_a_median_is_over_the_seeds_that_are_there(found: dict[str, Any]) -> None:
    from quality_goals import Goal

    assert Goal('net, seed *', 'row', 'phase_psnr', 25).measured(found) == (25.0, 2)
    assert Goal('net, seed 1', 'row', 'phase_psnr').measured(found) == (26.0, 1)
    assert Goal('net, seed *', 'other', 'phase_psnr').measured(found) == (None, 0)
    assert Goal('none', 'row', 'phase_psnr').measured({}) == (None, 0)


def test_the_best_engine_is_the_best_of_all_its_runs(found: dict[str, Any]) -> None:
    from quality_goals import Goal

    assert Goal('net, seed *', 'row', 'phase_psnr', 2, engine='engine').measured(found) == (25.0 - 27.0, 2)
    assert Goal('net, seed 1', 'row', 'frc_area', engine='engine').measured(found)[0] == pytest.approx(0.85 - 0.9)
    with_prior = Goal('net, seed *', 'row', 'phase_psnr', engine='engine', kind='prior')
    assert with_prior.measured(found) == (25.0 - 29.0, 2)
    assert Goal('net, seed *', 'row', 'phase_psnr', engine='absent').measured(found) == (None, 0)


def test_a_speed_is_the_time_to_be_equal_and_counts_no_judging(found: dict[str, Any]) -> None:
    from quality_goals import Goal

    def speed(case: str, *equal: str, kind: str = '') -> Any:
        return Goal(case, 'row', 'speed', 8, engine='engine', equal=equal, kind=kind).measured(found)[0]

    assert speed('net, seed 0', 'phase_psnr') == pytest.approx(3.0 / 1.5)
    assert speed('net, seed 0', 'phase_psnr', kind='textbook') == pytest.approx(12.0 / 1.5)
    assert speed('net, seed 0', 'phase_psnr', 'frc_area') == pytest.approx(9.0 / 1.5)
    found['net, seed 1']['row']['phase_psnr'] = 26.5
    assert speed('net, seed 1', 'phase_psnr') == float('inf')  # our engine never gets there


def test_the_report_says_what_is_met_and_how_many_seeds_are_missing(found: dict[str, Any]) -> None:
    from quality import goal_line
    from quality_goals import Goal

    met = goal_line(Goal('net, seed *', 'row', 'phase_psnr', 24.5), found)
    assert met == '| net, median of 3 seeds | row | phase_psnr | >= 24.5 | 25 | met (2 of 3 seeds) |'
    missed = goal_line(Goal('net, seed 0', 'row', 'frc_area', 0.9, 1.0), found)
    assert missed == '| net, seed 0 | row | frc_area | 0.9 to 1 | 0.85 | **missed** |'
    assert goal_line(Goal('later', 'row', 'residual', high=0.1), found).endswith('| <= 0.1 |  | - |')


def test_every_goal_is_of_a_case_that_exists() -> None:
    from fnmatch import fnmatchcase

    from quality import ALL_CASES
    from quality_goals import goals

    every = list(goals())
    assert len(every) > 100
    for goal in every:
        assert any(fnmatchcase(name, goal.case) for name in ALL_CASES), goal
        assert not goal.engine or goal.engine in ALL_CASES, goal


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
    from trust_worth import correlation

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
