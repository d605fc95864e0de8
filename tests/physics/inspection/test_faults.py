"""D81 to D86: what is wrong with a scan is found, mended and said, and nothing else is changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_scans import fields_of
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ScanError, SeveralScansError
from ptychopinn_reconstructor.events import Notice
from ptychopinn_reconstructor.io.records import Use, build_scan
from ptychopinn_reconstructor.physics.inspection.corrected import CorrectedPatterns, Values
from ptychopinn_reconstructor.physics.inspection.inspect import mend_scan
from ptychopinn_reconstructor.physics.inspection.places import likely_unit
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

N = 64
OBJECTS, PROBES, DOSES = ('cells', 'mixed', 'spokes'), ('defocused', 'zone_plate', 'airy'), (1e4, 1e5, 1e6)
CASES = list(zip(OBJECTS, PROBES, DOSES, strict=True))


@pytest.fixture(scope='module', params=CASES, ids=[f'{o}-{p}-{d:g}' for o, p, d in CASES])
def scan(request: pytest.FixtureRequest) -> Scan:
    object_, probe, photons = request.param
    return simulate(n=N, positions=144, step=8, photons=photons, object=object_, probe=probe, seed=5)


def codes(notices: tuple[Notice, ...]) -> set[str]:
    return {notice.code for notice in notices}


def mended(scan: Scan, **changes: object) -> tuple[Scan, set[str]]:
    found, notices = mend_scan(**fields_of(scan, **changes))
    return found, codes(notices)


def bad_pixels(scan: Scan) -> NDArray[np.bool_]:
    return np.zeros((N, N), bool) if scan.bad_pixels is None else scan.bad_pixels


def cross() -> NDArray[np.bool_]:
    gap = np.zeros((N, N), bool)
    gap[30:33] = gap[:, 40:42] = True
    return gap


@pytest.mark.parametrize(
    ('fill', 'dtype'),
    [
        (2**32 - 1, np.uint32), (2**32 - 2, np.uint32), (65535, np.uint32), (65535, np.uint16), (-1, np.int32),
        (-2, np.int16), (2**31 - 1, np.int32), (2**32 - 1, np.float32), (np.nan, np.float64), (np.inf, np.float32),
        (-1, np.float32),
    ],
)  # fmt: skip
def test_values_that_no_detector_counts_are_masked(scan: Scan, fill: float, dtype: type) -> None:
    """In the gaps between modules, in any type; the rest stays."""
    patterns: NDArray[np.generic] = scan.diffraction.astype(dtype)
    patterns[:, cross()] = fill
    found, said = mended(scan, diffraction=patterns)
    assert said == {'impossible_values'} and np.array_equal(bad_pixels(found), cross())
    kept = scan.counts(slice(None)) * ~cross()
    assert np.array_equal(found.counts(slice(None)), kept)


def test_under_a_mask_anything_may_lie(scan: Scan) -> None:
    """NaN and -1 where bad_pixels is true are not looked at, by a scan as it is either."""
    for fill, dtype in ((np.nan, np.float32), (-1, np.int32), (-1e30, np.float64)):
        patterns = scan.diffraction.astype(dtype)
        patterns[:, cross()] = fill
        for as_is in (False, True):
            found, notices = build_scan(Use(as_is=as_is), **fields_of(scan, diffraction=patterns, bad_pixels=cross()))
            assert not notices and np.isfinite(found.counts(slice(None))).all()


def test_negative_values_that_are_none_of_these_are_refused(scan: Scan) -> None:
    """What a subtracted background has left says nothing about pixels."""
    patterns = scan.diffraction - np.float32(3.5)
    with pytest.raises(ScanError, match=r'negative values \(-3.5'):
        mend_scan(**fields_of(scan, diffraction=patterns))


def test_single_lost_values_are_those_of_their_neighbors(scan: Scan) -> None:
    """NaN here and there, in other pixels each time."""
    patterns = scan.diffraction.astype(np.float32)
    patterns[np.arange(50), np.arange(50) % N, (np.arange(50) * 7) % N] = np.nan
    found, said = mended(scan, diffraction=patterns)
    assert said == {'impossible_values'} and found.bad_pixels is None
    assert found.counts(slice(None)).sum() == pytest.approx(scan.counts(slice(None)).sum(), rel=2e-3)


def test_hot_pixels_are_masked(scan: Scan) -> None:
    """All of twenty that are brighter than what is there, steady, noisy, or a pair, and no others."""
    rng = np.random.default_rng(0)
    patterns, hot = scan.diffraction.astype(np.uint32), np.zeros((N, N), bool)
    hot.ravel()[rng.choice(N * N, 20, replace=False)] = True
    hot[3, 4] = hot[3, 5] = True
    level = 6 * patterns.mean(axis=0).max() + 50
    patterns[:, hot] = rng.poisson(level, (len(patterns), int(hot.sum())))
    found, said = mended(scan, diffraction=patterns)
    assert said == {'hot_pixels'} and np.array_equal(bad_pixels(found), hot)


@pytest.mark.parametrize('leak', [0.0, 0.002])
def test_gaps_without_counts_are_masked(scan: Scan, leak: float) -> None:
    """Nearly all of a cross through the array: where it is dark around it, nothing tells."""
    patterns = np.where(cross(), np.floor(leak * scan.diffraction), scan.diffraction).astype(np.uint32)
    found, said = mended(scan, diffraction=patterns)
    assert said == {'dark_pixels'} and not (bad_pixels(found) & ~cross()).any()
    light = scan.diffraction.sum(axis=0)
    assert light[cross() & ~bad_pixels(found)].sum() < (0.02 if leak else 1e-9) * light[cross()].sum()


def test_a_beam_stop_is_masked() -> None:
    """In the bright field of a probe, and where it fills the hole of an annular one."""
    stop = np.zeros((N, N), bool)
    stop[29:36, 29:36] = True
    for probe in ('flat_top', 'defocused'):
        scan = simulate(n=N, positions=324, step=8, photons=1e5, object='mixed', probe=probe, seed=1)
        found, said = mended(scan, diffraction=np.where(stop, 0, scan.diffraction))
        assert said == {'dark_pixels'} and np.array_equal(bad_pixels(found), stop)


def test_dead_pixels_are_masked(scan: Scan) -> None:
    """Single ones in the bright ring."""
    total = scan.diffraction.sum(axis=0)
    dead = np.zeros((N, N), bool)
    dead.ravel()[np.argsort(total.ravel())[-40::10]] = True
    found, said = mended(scan, diffraction=np.where(dead, 0, scan.diffraction))
    assert said == {'dark_pixels'} and np.array_equal(bad_pixels(found), dead)


def test_cosmic_rays_are_replaced(scan: Scan) -> None:
    """Three a pattern: nearly all that add much are found, no others; what they are replaced by is close."""
    rng = np.random.default_rng(2)
    clean, n = scan.counts(slice(None)), len(scan)
    frames, (rows, columns) = np.repeat(np.arange(n), 3), rng.integers(0, N, (2, 3 * n))
    patterns = scan.diffraction.astype(np.uint32)
    level = 12 * clean.mean(axis=0).max()
    patterns[frames, rows, columns] += rng.integers(int(level), 3 * int(level), 3 * n).astype(np.uint32)
    found, said = mended(scan, diffraction=patterns)
    assert said == {'single_hits'} and found.bad_pixels is None
    left, added = found.counts(slice(None)) - clean, patterns - clean
    assert (np.abs(left) > 0.2 * added)[added > 0].mean() < 0.04
    assert not left[added == 0].any()


@pytest.mark.parametrize('photons', [1e3, 1e5])
def test_blank_frames_are_left_out(photons: float) -> None:
    """Five percent of them, single ones and a row of them; the numbers are said."""
    scan = simulate(n=N, positions=324, step=7, photons=photons, object='cells', probe='defocused', seed=3)
    blank = np.array([5, 17, 40, 41, 42, 43, 100, 101, 200, 323])
    patterns = scan.diffraction.copy()
    patterns[blank] = 0
    found, notices = mend_scan(**fields_of(scan, diffraction=patterns, pattern_indexes=np.arange(324)))
    assert codes(notices) == {'lost_frames'} and '5, 17, 40, 41, 42 and 5 more' in notices[0].text
    kept = np.delete(np.arange(324), blank)
    assert found.pattern_indexes is not None and np.array_equal(found.pattern_indexes, kept)
    assert np.array_equal(found.positions, scan.positions[kept])
    assert np.array_equal(found.diffraction, scan.diffraction[kept])


@pytest.mark.parametrize('fill', [32767, 65535, 'noise'])
def test_mad_frames_are_left_out(scan: Scan, fill: int | str) -> None:
    """One value everywhere, or noise."""
    patterns = scan.diffraction.astype(np.uint16)
    patterns[7] = np.random.default_rng(0).integers(0, 60000, (N, N)) if fill == 'noise' else fill
    found, said = mended(scan, diffraction=patterns)
    assert said == {'lost_frames'} and found.bad_pixels is None
    assert np.array_equal(found.diffraction, np.delete(scan.diffraction, 7, axis=0))


@pytest.mark.parametrize('offset', [(3, 0), (-2, 5), (0, -12)])
def test_a_beam_off_center_is_brought_there(scan: Scan, offset: tuple[int, int]) -> None:
    """With its mask; what was not measured is masked."""
    bad = cross()
    patterns = np.roll(np.where(bad, 0, scan.diffraction), offset, axis=(1, 2))
    found, said = mended(scan, diffraction=patterns, bad_pixels=np.roll(bad, offset, axis=(0, 1)))
    assert said == {'beam_offset'}
    good = ~bad_pixels(found)
    assert not bad_pixels(found)[12:-12, 12:-12][~bad[12:-12, 12:-12]].any() and not good[bad].any()
    assert np.array_equal(found.counts(slice(None)), scan.counts(slice(None)) * good)


def test_a_zero_frequency_in_the_corner_is_moved(scan: Scan) -> None:
    """Exactly by half of N, and nothing is masked."""
    found, said = mended(scan, diffraction=np.fft.ifftshift(scan.diffraction, axes=(1, 2)))
    assert (
        said == {'beam_offset'} and np.array_equal(found.diffraction, scan.diffraction) and not bad_pixels(found).any()
    )


def test_a_probe_off_center_itself_is_no_fault(scan: Scan) -> None:
    """A tilted probe has its far field where the patterns are; where they are centered, the probe is named alone."""
    assert scan.probe is not None
    ramp = np.exp(2j * np.pi * 4 * np.arange(N) / N).astype(np.complex64)
    patterns = np.roll(scan.diffraction, 4, axis=2)
    assert not mend_scan(**fields_of(scan, diffraction=patterns, probe=scan.probe * ramp))[1]
    found, said = mended(scan, probe=scan.probe * ramp)
    assert said == {'beam_offset'} and np.array_equal(found.diffraction, scan.diffraction)


@pytest.mark.parametrize('factor', [1 / 533, 0.37, 1e-6, 7, 100])
def test_a_constant_factor_is_divided_out(scan: Scan, factor: float) -> None:
    """In single precision, of counts and of amplitudes; whole numbers too."""
    patterns = (scan.diffraction * float(factor)).astype(np.float32)
    found, said = mended(scan, diffraction=patterns)
    assert said == {'count_factor'} and np.allclose(found.counts(slice(None)), scan.counts(slice(None)), rtol=1e-3)
    amplitudes = np.sqrt(patterns)
    found, said = mended(replace(scan, domain='amplitude'), diffraction=amplitudes)
    assert said == {'count_factor'} and np.allclose(found.counts(slice(None)), scan.counts(slice(None)), rtol=1e-3)


def test_an_inverted_mask_is_turned(scan: Scan) -> None:
    """Whether the good pixels of the mask hold nothing or counts."""
    for patterns in (scan.diffraction, np.where(cross(), 0, scan.diffraction)):
        found, said = mended(scan, diffraction=patterns, bad_pixels=~cross())
        assert said == {'mask_inverted'} and np.array_equal(bad_pixels(found), cross())


def test_a_mask_that_hides_the_beam_is_refused(scan: Scan) -> None:
    """All but the rim of the array."""
    hiding = np.zeros((N, N), bool)
    hiding[12:-12, 12:-12] = True
    with pytest.raises(ScanError, match='of the beam'):
        mend_scan(**fields_of(scan, bad_pixels=hiding, diffraction=np.where(hiding, 0, scan.diffraction)))
    build_scan(Use(as_is=True), **fields_of(scan, bad_pixels=hiding))


@pytest.mark.parametrize(
    ('factor', 'unit'),
    [(1e-8, 'meters'), (1e-2, 'micrometers'), (5e-2, 'micrometers'), (1e-5, 'millimeters'), (10, 'nanometers')],
)
def test_positions_in_another_unit_are_refused(scan: Scan, factor: float, unit: str) -> None:
    """An object pixel of 10 or 50 nm."""
    with pytest.raises(ScanError, match=unit):
        mend_scan(**fields_of(scan, positions=scan.positions * factor))


def test_the_likely_unit_is_that_of_usual_pixels() -> None:
    """A step of 0.3 diameters, whose pixel is nearest to 20 nm."""
    assert likely_unit(6e-8, 20) == 'meters' and likely_unit(0.06, 20) == 'micrometers'
    assert likely_unit(100, 20) == 'nanometers' and likely_unit(1200, 20) == 'angstroms'


@pytest.mark.parametrize('place', [(5000.0, 0.0), (1e9, -1e9), (np.nan, 10.0), (np.inf, 0.0)])
def test_a_lost_position_is_left_out(scan: Scan, place: tuple[float, float]) -> None:
    """Far from all others, or unknown."""
    positions = scan.positions.copy()
    positions[11] = place
    found, said = mended(scan, positions=positions)
    assert said == {'lost_positions'} and np.array_equal(found.positions, np.delete(scan.positions, 11, axis=0))
    assert np.array_equal(found.diffraction, np.delete(scan.diffraction, 11, axis=0))


def test_of_several_scans_one_is_chosen(scan: Scan) -> None:
    """Each by its number, mended by itself; none is merged without being told to."""
    index = np.where(np.arange(len(scan)) < 60, 3, 7)
    patterns = scan.diffraction.astype(np.uint16)
    patterns[100] = 32767
    fields = fields_of(scan, diffraction=patterns, scan_index=index)
    with pytest.raises(SeveralScansError, match=r'2 scans \(scan_index 3, 7\)') as caught:
        build_scan(Use(), **fields)
    assert caught.value.indexes == (3, 7)
    first, said = build_scan(Use(scan_index=3), **fields)
    assert not said and np.array_equal(first.diffraction, scan.diffraction[:60])
    second, notices = build_scan(Use(scan_index=7), **fields)
    assert codes(notices) == {'lost_frames'} and len(second) == len(scan) - 61
    assert np.array_equal(second.positions, np.delete(scan.positions, 100, axis=0)[60:])
    assert len(build_scan(Use(as_is=True), **fields)[0]) == len(scan)
    with pytest.raises(ScanError, match='scan_index is 4'):
        build_scan(Use(scan_index=4), **fields)


def test_faults_come_together(scan: Scan) -> None:
    """Hot pixels, a gap, a mad and a blank frame, off center by three."""
    patterns = scan.diffraction.astype(np.uint32)
    patterns[:, cross()] = 2**32 - 1
    patterns[:, 5, 50] = patterns.max(where=~cross(), initial=0) * 4
    patterns[20], patterns[30] = 0, 32767
    found, said = mended(scan, diffraction=np.roll(patterns, (3, 0), axis=(1, 2)))
    assert said == {'impossible_values', 'hot_pixels', 'beam_offset', 'lost_frames'}
    kept = np.delete(np.arange(len(scan)), [20, 30])
    good = ~bad_pixels(found)
    assert good.sum() == N * N - cross().sum() - 1 - 3 * (N - 2)
    assert np.array_equal(found.counts(slice(None)), scan.counts(kept) * good)


def test_as_it_is_nothing_is_changed(scan: Scan) -> None:
    """Not a fault either."""
    patterns = np.roll(scan.diffraction, 5, axis=2)
    patterns[7] = 32767
    found, notices = build_scan(Use(as_is=True), **fields_of(scan, diffraction=patterns))
    assert not notices and found.diffraction is not patterns and np.array_equal(found.diffraction, patterns)


def test_corrections_are_made_as_patterns_are_read() -> None:
    """The same by slices, integers and arrays as of the whole, without a copy of the file's."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 9, (20, 8, 8)).astype(np.uint16)
    frames = np.delete(np.arange(20), [3, 11])
    values = Values(np.array([0, 4, 4]), np.array([1, 2, 7]), np.array([5, 0, 7]), np.array([40.0, 41.0, 42.0]))
    lazy = CorrectedPatterns(patterns, frames, values, (2, -1))
    whole = patterns[frames].copy()
    whole[0, 1, 5], whole[4, 2, 0], whole[4, 7, 7] = 40, 41, 42
    whole = np.roll(whole, (2, -1), axis=(1, 2))
    assert lazy.shape == whole.shape and lazy.dtype == whole.dtype and len(lazy) == 18
    assert np.array_equal(np.asarray(lazy), whole)
    for index in (4, -1, slice(2, 9), slice(None, None, 3), np.array([9, 4, 4, 0]), np.arange(18) > 3):
        assert np.array_equal(lazy[index], whole[index])
    assert np.array_equal(lazy[2:5, 3], whole[2:5, 3])
