"""How far a result can be trusted: misfit, coverage, disagreement of patches, agreement of halves (RELIABILITY)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import imread
from scans import small_scan
from scipy import ndimage

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.events import Event, Progress
from ptychopinn_reconstructor.io.plain_json import to_plain_json
from ptychopinn_reconstructor.physics.geometry import layout
from ptychopinn_reconstructor.physics.illumination import illuminated_area, illumination
from ptychopinn_reconstructor.physics.prepare import PreparedScan, even_batches, prepare_scan
from ptychopinn_reconstructor.physics.residual import residual
from ptychopinn_reconstructor.physics.scoring.frc import describe_half_data, frc
from ptychopinn_reconstructor.physics.scoring.halves import halves_frc, split_interleaved
from ptychopinn_reconstructor.physics.stitching.average import mean_object
from ptychopinn_reconstructor.physics.stitching.disagreement import Disagreement
from ptychopinn_reconstructor.physics.stitching.stitch import contributions, probe_weight, stitch_patches
from ptychopinn_reconstructor.reconstruction.diagnostic_pictures import from_bytes, pictures, to_bytes
from ptychopinn_reconstructor.reconstruction.diagnostics import Reliability, assess
from ptychopinn_reconstructor.reconstruction.finish import Result
from ptychopinn_reconstructor.reconstruction.writing import write_result
from ptychopinn_reconstructor.result import Reconstruction

# --- disagreement ----------------------------------------------------------------------------------------------------


def test_the_disagreement_is_the_weighted_standard_deviation_about_the_mean() -> None:
    """Pixel by pixel, patch by patch without its rim, as it is defined; batches change nothing."""
    rng = np.random.default_rng(0)
    n, shape, count, eps = 8, (16, 17), 9, 0.05
    u = rng.normal(size=(count, n, n)) + 1j * rng.normal(size=(count, n, n))
    weight = rng.uniform(0.0, 2.0, size=(count, n, n)).astype(np.float32)
    corners = rng.integers(0, 8, size=(count, 2))
    found = Disagreement(shape, eps)
    for index in even_batches(np.arange(count), 4):
        found.prepare(u[index], weight[index], corners[index], 1)()
    expected = np.full(shape, np.nan)
    for row, col in np.ndindex(*shape):
        there = [(i, row - r - 1, col - c - 1) for i, (r, c) in enumerate(corners.tolist())]
        there = [(i, y, x) for i, y, x in there if 0 < y < n - 1 and 0 < x < n - 1]
        w = np.array([weight[where] for where in there], dtype=float)
        q, o = w**2 / (w + eps), np.array([u[where] for where in there]) / w
        if len(there) and q.sum() ** 2 > 1.5 * (q**2).sum():
            mean = (q * o).sum() / q.sum()
            expected[row, col] = np.sqrt((q * abs(o - mean) ** 2).sum() / (q.sum() - (q**2).sum() / q.sum()))
    assert np.isfinite(expected).sum() > 40 and np.isnan(expected).sum() > 20
    np.testing.assert_allclose(found.deviation(2.0), 2 * expected, rtol=2e-3)


def oracle(noise: float | None = None) -> tuple[PreparedScan, NDArray[np.complex64]]:
    """A scan of a flat object and its true patches with noise that grows from left to right, or is `noise`."""
    scan = small_scan(positions=196, object='flat')
    prepared = prepare_scan(scan, mode='absolute', stride=16)
    rng = np.random.default_rng(0)
    columns = prepared.positions[:, 1]
    sigma = 0.02 + 0.2 * columns / columns.max() if noise is None else np.full(len(columns), noise)
    patches = prepared.labels(np.arange(len(prepared)))
    noisy = rng.normal(size=(2, *patches.shape))
    patches = patches + sigma[:, None, None] / np.sqrt(2) * (noisy[0] + 1j * noisy[1])
    return prepared, patches.astype(np.complex64)


def test_the_uncertainty_follows_the_true_error() -> None:
    """The deviation is that of the patches, and the error of the object follows it from place to place."""
    prepared, patches = oracle()
    u = contributions(patches, probe_weight(prepared.probe, prepared.patch_size), prepared.layout.fractions)
    options = {'neighbors': 16, 'spread': True}
    noisy = stitch_patches(u, prepared.layout, prepared.probe, batches=prepared.batches(64), **options)  # type: ignore[arg-type]
    deviation = noisy.deviation()
    assert deviation is not None
    clean = contributions(
        prepared.labels(np.arange(len(prepared))),
        probe_weight(prepared.probe, prepared.patch_size),
        prepared.layout.fractions,
    )
    exact = stitch_patches(clean, prepared.layout, prepared.probe, neighbors=16, batches=prepared.batches(64))
    inside = np.s_[20:-20, 20:-20]
    for column, expected in ((24, 0.02 + 0.2 * 8.5 / 52), (60, 0.02 + 0.2 * 44.5 / 52)):
        found = float(np.median(deviation[20:-20, column - 2 : column + 3]))
        assert found == pytest.approx(expected, rel=0.25)
    error = np.abs(noisy.canvas() - exact.canvas())[inside]
    smooth = [np.sqrt(ndimage.gaussian_filter(values**2, 3.0)) for values in (error, deviation[inside])]
    assert np.corrcoef(smooth[0].ravel(), smooth[1].ravel())[0, 1] > 0.8
    assert exact.deviation() is None, 'nothing is collected that is not asked for'


def test_patches_that_agree_are_certain_and_one_alone_is_unknown() -> None:
    prepared, patches = oracle(noise=0.0)
    u = contributions(patches, probe_weight(prepared.probe, prepared.patch_size), prepared.layout.fractions)
    agreed = stitch_patches(
        u, prepared.layout, prepared.probe, neighbors=16, batches=prepared.batches(64), spread=True
    ).deviation()
    assert agreed is not None and float(np.nanmedian(agreed)) < 0.01
    assert np.isnan(agreed[0, 0])
    first = np.arange(1)
    alone = stitch_patches(
        u, prepared.layout.part(first), prepared.probe, neighbors=0, batches=iter([first]), rows=first, spread=True
    ).deviation()
    assert alone is not None and np.isnan(alone).all()


def test_an_ensemble_is_the_mean_whatever_the_global_phases() -> None:
    rng = np.random.default_rng(0)
    truth = np.exp(1j * rng.uniform(-1, 1, size=(40, 50)))
    light = np.ones(truth.shape, np.float32)
    light[:, 25:] = 0
    objects = [
        truth + 0.2 * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) / np.sqrt(2) for _ in range(8)
    ]
    objects[3][:, 25:] = 100.0  # in the dark: it must not turn the rest
    turned = [(one * np.exp(1j * phase)).astype(np.complex64) for one, phase in zip(objects, range(8), strict=True)]
    mean, deviation = mean_object(turned, light)
    lit = np.s_[:, :25]
    phase = np.exp(-1j * np.angle(np.vdot(truth[lit], mean[lit])))
    assert np.abs(mean[lit] * phase - np.mean([one[lit] for one in objects], axis=0)).max() < 0.05
    assert float(np.sqrt((deviation[lit] ** 2).mean())) == pytest.approx(0.2, rel=0.03)


# --- misfit and coverage ---------------------------------------------------------------------------------------------


def test_the_r_factor_by_hand() -> None:
    counts = np.array([[[4.0, 9.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]])
    predicted = np.array([[[9.0, 9.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 4.0]]])
    assert residual(predicted, counts).r_factor == pytest.approx((1 + 1 + 2) / (2 + 3 + 1 + 1))
    good = np.array([[True, True], [True, False]])
    found = residual(predicted, counts, good)
    assert found.r_factor == pytest.approx(2 / 6)
    turned = found.ordered(np.array([1, 0]))
    assert turned.per_pattern == pytest.approx(found.per_pattern[::-1]) and turned.r_factor == found.r_factor


def test_the_illumination_is_the_sum_of_the_probe_at_all_positions() -> None:
    y, x = np.mgrid[:16, :16] - 7.5
    disk = (np.hypot(x, y) < 5).astype(np.complex64)
    probe = np.stack([3 * disk, 4j * disk])
    laid = layout(np.array([[0.0, 0.0], [0.0, 12.0], [0.0, 12.0]]), 16)
    light = illumination(laid, probe)
    assert light.shape == (16, 28) and light.sum() == pytest.approx(3 * 25 * disk.real.sum())
    assert light[7, 7] == 25 and light[7, 19] == 50 and light[0, 0] == 0
    assert np.array_equal(illuminated_area(light), light > 0)
    assert np.array_equal(illuminated_area(light, 0.8), light > 40)


# --- two halves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('n', [2, 7, 1024])
def test_the_halves_are_interleaved(n: int) -> None:
    one, other = split_interleaved(n)
    assert sorted([*one, *other]) == list(range(n)) and abs(len(one) - len(other)) <= 1
    assert [*one[: n // 2] // 2] == list(range(n // 2))
    if n == 1024:  # a raster of 32 columns: no column is left out of a half
        assert {*(one % 32)} == {*(other % 32)} == set(range(32))


def test_halves_with_noise_correlate_as_their_signal_to_noise_says() -> None:
    """FRC = S / (S + 1) for white signal and noise of power ratio S, whatever global phase and ramp stand between."""
    rng = np.random.default_rng(1)
    signal, *noise = (rng.normal(size=(3, 128, 160)) + 1j * rng.normal(size=(3, 128, 160))) / np.sqrt(2)
    a, b = (1 + 0.1 * (signal + part / np.sqrt(3)) for part in noise)
    rows, cols = np.mgrid[:128, :160]
    other = b * np.exp(1j * (0.7 + 0.02 * rows - 0.013 * cols))
    found = halves_frc(a, other, (slice(0, 128), slice(0, 160)))
    assert found.curve[8:].mean() == pytest.approx(3 / 4, abs=0.02)
    assert frc(a, other).curve[8:].mean() < 0.4


def test_an_frc_tells_its_resolution_in_pixels_and_nanometers() -> None:
    rng = np.random.default_rng(0)
    n = 128
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    signal = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, n))) * (k < 0.2))
    found = frc(*(2 * signal + 0.5 * rng.normal(size=(n, n)) for _ in range(2))).to_json((1e-8, 2e-8))
    for name in ('half', 'seventh', 'half_bit'):
        one = found['resolution'][name]
        assert one['pixels'] == pytest.approx(5.0, rel=0.08) and one['nm'] == pytest.approx(20 * one['pixels'])
        assert one['frequency'] == pytest.approx(1 / one['pixels'])
    assert len(found['curve']['correlation']) == len(found['curve']['half_bit']) == n // 2
    nothing = frc(rng.normal(size=(16, 16)), -rng.normal(size=(16, 16))).to_json()['resolution']
    assert all(one['nm'] is None for one in nothing.values())
    assert json.loads(json.dumps(to_plain_json(found), allow_nan=False)) == found


# --- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def alone() -> tuple[Result, list[Event]]:
    """The engine alone, with a split, on a scan whose pixels have a size."""
    events: list[Event] = []
    scan = replace(small_scan(positions=196), pixel_size=(1e-8, 1e-8))
    config = Config().merged({'inference': {'split_frc': True}})
    return pp.refine(scan, config.merged({'refinement': {'passes': 6}}), emit=events.append), events


def test_every_result_says_how_far_to_trust_it(alone: tuple[Result, list[Event]]) -> None:
    result, events = alone
    reliability, report = result.report.reliability, result.report
    assert reliability.uncertainty is not None and reliability.source == 'result' and reliability.split is not None
    values = reliability.to_json()
    assert values['residual'] == report.residual and 0.05 < values['r_factor'] < 0.5
    worst = values['residual_largest_pattern']
    assert report.residual_per_pattern[worst] == values['residual_largest']
    assert values['covered_share'] == 1.0 and not reliability.coverage[0, 0]
    assert values['uncertainty_of'] == 'result' and 0 < values['uncertainty_median'] < values['uncertainty_p95'] < 1
    assert f'90 % error bars of {values["uncertainty_median"]:.2g} (median)' in result.reconstruction.comments
    assert result.reconstruction.metadata['uncertainty'] is reliability.uncertainty and 'error_bars' in report.stages
    seventh = values['split_frc']['resolution']['seventh']
    assert 2 <= seventh['pixels'] < 8 and seventh['nm'] == pytest.approx(10 * seventh['pixels'])
    comments = result.reconstruction.comments
    assert comments.count('\n') == 0 and f'R {reliability.misfit.r_factor:.3g}' in comments
    found = describe_half_data(values['split_frc']['resolution'])
    assert found == f'1/7 not reached: {seventh["pixels"]:.1f} px ({seventh["nm"]:.3g} nm) or better'
    assert f'half-data FRC {found} (both halves share the probe)' in comments
    assert {event.stage for event in events if isinstance(event, Progress)} == {'refine', 'refine half'}
    assert json.loads(json.dumps(to_plain_json(values), allow_nan=False))['split_frc']['area'] == reliability.split.area


def test_the_resolution_of_half_data_is_by_the_coarser_criterion() -> None:
    """And where the curve never falls below it, it is not said to be reached."""

    def told(seventh: float, half_bit: float, unit: float | None = 10.0) -> str:
        found = {'seventh': seventh, 'half_bit': half_bit}
        return describe_half_data(
            {
                name: {
                    'frequency': value,
                    'pixels': 1 / value if value else None,
                    'nm': unit / value if value and unit else None,
                }
                for name, value in found.items()
            }
        )

    assert told(0.5, 0.5) == '1/7 not reached: 2.0 px (20 nm) or better'
    assert told(0.5, 0.25) == 'half-bit at 4.0 px = 40 nm'
    assert told(0.4, 0.5, None) == '1/7 at 2.5 px'
    assert told(0.5, 0.0) == 'no frequency above half-bit'


def test_the_halves_share_no_pattern_and_are_refined_apart(alone: tuple[Result, list[Event]]) -> None:
    """Half the patterns replaced by noise ruin one half only, and with it the agreement."""
    result, _ = alone
    assert result.report.reliability.split is not None
    scan = small_scan(positions=196)
    order = prepare_scan(scan).order
    spoiled = np.asarray(scan.diffraction).copy()
    mine = order[split_interleaved(len(scan))[0]]
    spoiled[mine] = np.random.default_rng(0).permutation(spoiled[mine].ravel()).reshape(spoiled[mine].shape)
    config = Config().merged({'inference': {'split_frc': True}})
    bad = pp.refine(replace(scan, diffraction=spoiled), config.merged({'refinement': {'passes': 6}})).report.reliability
    assert bad.split is not None
    assert bad.split.area < result.report.reliability.split.area - 0.3


def test_the_pictures_are_written_and_old_ones_are_not_left(alone: tuple[Result, list[Event]], tmp_path: Path) -> None:
    result, _ = alone
    reliability = result.report.reliability
    uncertain = replace(reliability, uncertainty=np.full(reliability.coverage.shape, 0.1, np.float32))
    files = write_result(tmp_path, result.reconstruction, {}, reliability=uncertain)
    for kind in ('residual_map', 'uncertainty', 'coverage', 'split_frc'):
        assert files[kind].parent == tmp_path and len(np.unique(imread(files[kind])[..., :3])) > 20
    again = write_result(
        tmp_path, result.reconstruction, {}, reliability=replace(reliability, uncertainty=None, split=None)
    )
    assert 'uncertainty' not in again and not files['uncertainty'].exists() and not files['split_frc'].exists()
    assert again['residual_map'].exists() and again['coverage'].exists()


def test_the_residual_map_shows_each_pattern_at_its_place(tmp_path: Path) -> None:
    """One bad pattern, far to the right and low: the brightest spot of the picture is there."""
    scan = small_scan()
    prepared = prepare_scan(scan)
    counts = np.ones((len(scan), 2, 2))
    predicted = counts.copy()
    worst = int(np.argmax(scan.positions.sum(axis=1)))
    predicted[np.flatnonzero(prepared.order == worst)] = 9.0
    reliability = assess(prepared, residual(predicted, counts), prepared.probe)
    assert reliability.to_json()['residual_largest_pattern'] == worst
    result = Reconstruction(
        np.ones(prepared.layout.shape, np.complex64), prepared.layout.origin, prepared.probe, scan.positions
    )
    picture = imread(write_result(tmp_path, result, {}, reliability=reliability)['residual_map'])[..., :3]
    height, width = picture.shape[:2]
    yellow = (picture[..., 0] > 0.9) & (picture[..., 1] > 0.85) & (picture[..., 2] < 0.25)
    inside = yellow[:, : int(0.85 * width)]  # beside it is the color bar
    rows, cols = np.nonzero(inside)
    assert len(rows) and rows.min() > 0.6 * height and cols.min() > 0.5 * width


@pytest.mark.parametrize('what', ['everything', 'little'])
def test_another_process_knows_the_same(alone: tuple[Result, list[Event]], what: str) -> None:
    reliability = alone[0].report.reliability
    if what == 'everything':
        uncertain = np.random.default_rng(0).random(reliability.coverage.shape).astype(np.float32)
        reliability = replace(reliability, uncertainty=uncertain, source='models', outside=('dose',), from_network=True)
    else:
        reliability = replace(reliability, uncertainty=None, split=None, pixel_size=None)
    again = from_bytes(to_bytes(reliability))
    assert again.to_json() == reliability.to_json() and again.line() == reliability.line()
    assert list(pictures(again)) == list(pictures(reliability))
    assert len(pictures(again)) == (4 if what == 'everything' else 2)
    for name in ('positions', 'coverage', 'uncertainty'):
        np.testing.assert_array_equal(getattr(again, name), getattr(reliability, name))
    np.testing.assert_array_equal(again.misfit.per_pattern, reliability.misfit.per_pattern)
    for name in ('origin', 'pixel_size', 'area'):
        assert getattr(again, name) == getattr(reliability, name)


def test_a_line_names_only_what_is_known() -> None:
    one = residual(np.full((2, 2, 2), 4.0), np.ones((2, 2, 2)))
    positions = np.array([[0.0, 0.0], [8.0, 8.0]])
    reliability = Reliability(one, positions, (0.0, 0.0), None, np.ones((9, 9), dtype=bool))
    assert reliability.line() == 'residual 1, R 1'
    deviation = np.full((9, 9), 0.25, np.float32)
    outside = replace(reliability, uncertainty=deviation, source='models', outside=('dose', 'overlap'))
    assert outside.line() == 'residual 1, R 1, models disagree by 0.25 (median), outside of the training: dose, overlap'
    refined = replace(reliability, uncertainty=deviation, source='result')
    assert refined.line() == 'residual 1, R 1, 90 % error bars of 0.25 (median)'
