"""The verdict on a result: clean scans are good, and each fault is named with its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import error_lines, run

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.io import read_product, write_npz
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.result import Reason, Verdict
from ptychopinn_reconstructor.scan import Scan

PASSES = 10


def judge(scan: Scan, passes: int = PASSES, *, split_frc: bool = False, **refinement: object) -> Verdict:
    config = pp.Config().merged({'refinement': {'passes': passes, **refinement}, 'inference': {'split_frc': split_frc}})
    verdict = pp.refine(replace(scan, as_is=True), config).report.run.verdict
    assert verdict is not None
    return verdict


def make_scan(photons: float = 1e5, modes: int = 1, **options: object) -> Scan:
    return simulate(photons=photons, modes=modes, positions=144, seed=3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize('probe', ['defocused', 'flat_top'])
@pytest.mark.parametrize('photons', [1e3, 1e5, 1e6])
def test_a_clean_scan_is_good_at_every_dose(photons: float, probe: str) -> None:
    verdict = judge(make_scan(photons, probe=probe))
    assert verdict.word == 'good' and verdict.reasons == () and verdict.background == 0
    assert 0.85 < verdict.ratio < 1.5 and 0.85 < verdict.median_ratio < 1.2
    assert verdict.sentence == f'Fits to {verdict.ratio:.3g} times counting noise: good.'


def spoil(change: Callable[[np.ndarray, np.random.Generator], None]) -> Callable[[Scan], Scan]:
    """A fault of the patterns."""

    def apply(scan: Scan) -> Scan:
        counts = np.array(scan.diffraction, dtype=np.uint32)
        change(counts, np.random.default_rng(0))
        return replace(scan, diffraction=counts)

    return apply


def stop_beam(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[:, 29:36, 29:36] = 0


def heat_pixels(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[:, [3, 40, 60], [8, 9, 50]] = counts.max()


def close_shutter(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[[11, 50, 90]] = 0


def add_background(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts += rng.poisson(0.5, counts.shape).astype(np.uint32)


def saturate(counts: np.ndarray, rng: np.random.Generator) -> None:
    counts[:] = np.minimum(counts, 100)


def add_halo(counts: np.ndarray, rng: np.random.Generator) -> None:
    y, x = np.indices(counts.shape[1:]) - 32
    halo = np.exp(-(y**2 + x**2) / (2 * 18**2))
    counts += rng.poisson(0.1 * counts.sum() / len(counts) * halo / halo.sum(), counts.shape).astype(np.uint32)


def move_positions(scan: Scan) -> Scan:
    return replace(scan, positions=scan.positions + np.random.default_rng(0).normal(0, 2, scan.positions.shape))


def move_center(scan: Scan) -> Scan:
    return replace(scan, diffraction=np.roll(scan.diffraction, 3, axis=2))


def divide(scan: Scan) -> Scan:
    return replace(scan, diffraction=np.asarray(scan.diffraction / 10, dtype=np.float32))


@pytest.mark.parametrize(
    ('fault', 'photons', 'code', 'words'),
    [
        (spoil(stop_beam), 1e5, 'bad_pixels', ('49 pixels are far darker', 'row 29, column 29', 'bad_pixels')),
        (spoil(heat_pixels), 1e5, 'bad_pixels', ('3 pixels are far brighter', 'row 3, column 8')),
        (spoil(close_shutter), 1e5, 'outlier_patterns', ('3 patterns', 'number 11, 50, 90)', 'leave them out')),
        (spoil(close_shutter), 1e3, 'outlier_patterns', ('50, 90)',)),
        (spoil(add_background), 1e5, 'background', ('counts a pixel', 'dark current', 'refinement.background=on')),
        (spoil(add_background), 1e3, 'background', ('counts a pixel',)),
        (spoil(add_halo), 1e4, 'background', ('stray light',)),
        (spoil(saturate), 1e5, 'clipped', ('of the patterns end at exactly 100 counts', 'saturated', 'less light')),
        (move_positions, 1e5, 'misfit', ('of the counts', 'positions', 'refinement.positions=true')),
        (move_center, 1e5, 'misfit', ('of the counts',)),
        (divide, 1e5, 'below_noise', ('0.1', 'divided by a constant', 'as the detector wrote')),
    ],
)
def test_a_fault_is_named(fault: Callable[[Scan], Scan], photons: float, code: str, words: tuple[str, ...]) -> None:
    verdict = judge(fault(make_scan(photons)), background='off')
    assert verdict.word != 'good'
    reason = next(reason for reason in verdict.reasons if reason.code == code)
    text = f'{reason.finding} {reason.causes} {reason.remedy}'
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    ('fault', 'photons', 'counts'), [(add_background, 1e5, 0.5), (add_background, 1e3, 0.5), (add_halo, 1e4, 0.17)]
)
def test_a_background_that_was_estimated_is_told_and_is_no_fault(
    fault: Callable[[np.ndarray, np.random.Generator], None], photons: float, counts: float
) -> None:
    config = pp.Config().merged({'refinement': {'passes': PASSES}})
    result = pp.refine(replace(spoil(fault)(make_scan(photons)), as_is=True), config)
    run = result.report.run
    assert run.verdict is not None and run.verdict.word == 'good' and run.verdict.background == 0
    assert run.background == pytest.approx(counts, rel=0.25)
    assert result.reconstruction.metadata['background'].mean() == pytest.approx(run.background)
    (notice,) = (notice for notice in result.report.notices if notice.code == 'background')
    assert f'A background of {run.background:.2g} counts a pixel' in notice.text


def test_one_of_three_modes_is_bad() -> None:
    scan = make_scan(modes=3)
    assert scan.probe is not None
    one = replace(scan, probe=scan.probe[:1])
    assert judge(one, modes=0).word == 'bad'
    assert judge(one).word != 'bad'  # the engine finds the modes
    assert judge(scan).word == 'good'


def test_positions_that_are_all_stretched_are_told_though_the_misfit_hardly_rises() -> None:
    scan = make_scan()
    middle = scan.positions.mean(axis=0)
    verdict = judge(replace(scan, positions=middle + 1.02 * (scan.positions - middle), object=None))
    assert verdict.word == 'doubtful' and verdict.ratio < 1.3
    reason = next(reason for reason in verdict.reasons if reason.code == 'stretched_positions')
    assert '0.98' in reason.finding and 'refinement.positions=true' in reason.remedy


def test_masked_pixels_are_no_fault() -> None:
    scan = spoil(stop_beam)(make_scan())
    bad = np.zeros((64, 64), dtype=bool)
    bad[29:36, 29:36] = True
    assert judge(replace(scan, bad_pixels=bad)).word == 'good'


@pytest.mark.slow
def test_halves_that_share_nothing_disagree() -> None:
    """Patterns of noise: whatever each half makes of them is its own."""
    scan = make_scan(1e3)
    noise = np.random.default_rng(0).poisson(scan.diffraction.mean(), scan.diffraction.shape).astype(np.uint32)
    verdict = judge(replace(scan, diffraction=noise), split_frc=True)
    assert 'halves_disagree' in {reason.code for reason in verdict.reasons}
    assert judge(scan, split_frc=True).word == 'good'


def test_the_first_sentence_names_a_cause_before_the_misfit() -> None:
    verdict = judge(spoil(heat_pixels)(make_scan()), modes=0)
    codes = [reason.code for reason in verdict.reasons]
    assert codes[:2] == ['misfit', 'bad_pixels'] and 'clipped' not in codes and verdict.word == 'bad'
    assert 'bad, since 3 pixels are far brighter' in verdict.sentence and verdict.sentence.endswith('scan file.')


def test_a_verdict_in_plain_json() -> None:
    reason = Reason('background', 'doubtful', 'a', 'b', 'c')
    values = Verdict('doubtful', 1.5, 1.25, 0.5, (reason,)).to_json()
    assert values == json.loads(json.dumps(values))
    assert values['reasons'] == [
        {'code': 'background', 'word': 'doubtful', 'finding': 'a', 'causes': 'b', 'remedy': 'c'}
    ]


def test_a_bad_result_is_written_and_ends_a_strict_command_with_3(tmp_path: Path) -> None:
    write_npz(tmp_path / 'scan.npz', spoil(heat_pixels)(make_scan()))
    line = ['refine', str(tmp_path / 'scan.npz'), '--output-dir', str(tmp_path / 'r'), '--passes', '5', '--as-is']
    lax, strict = run(*line), run(*line, '--strict')
    assert lax.exit_code == 0 and 'times counting noise: bad' in lax.stdout
    assert 'bad: ' in lax.stdout and 'To do: mask them' in lax.stdout
    assert strict.exit_code == 3 and strict.stdout.count('\n') == lax.stdout.count('\n')
    (error,) = error_lines(strict.stderr)
    assert error.startswith('ptychopinn: error: Fits to ')
    verdict = json.loads((tmp_path / 'r' / 'metrics.json').read_text())['verdict']
    assert verdict['word'] == 'bad' and {reason['code'] for reason in verdict['reasons']} >= {'misfit', 'bad_pixels'}
    assert 'times counting noise: bad, since 3 pixels' in read_product(tmp_path / 'r' / 'product.h5').comments
    write_npz(tmp_path / 'scan.npz', make_scan())
    assert run(*line, '--strict').exit_code == 0
