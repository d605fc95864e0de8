"""The scans of `make quality`: objects, probes and overlaps are what they say, and so are the faults of "real" ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from ptychopinn_reconstructor.physics.probes import energy_diameter, make_probe
from ptychopinn_reconstructor.result import Reason, Verdict
from ptychopinn_reconstructor.scan import Scan

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
REFERENCE = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'siemens_star_reference.npz'


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('skimage', reason='scikit-image is not installed')
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_objects_are_of_different_kinds_within_their_ranges() -> None:
    from quality_scans import KINDS, OBJECTS

    found = {name: make((200, 210)) for name, make in OBJECTS.items()}
    assert len(KINDS) == 8 and {image.shape for image in found.values()} == {(200, 210)}
    for name in KINDS:
        assert np.abs(found[name]).min() > 0.599 and np.abs(found[name]).max() < 1.001
        assert 1.5 < np.ptp(np.angle(found[name])) < 2.45
    assert np.abs(found['absorbing']).min() < 0.03
    phase = np.unwrap(np.unwrap(np.angle(found['phase of 18 rad'].astype(np.complex128)), axis=0), axis=1)
    assert 12 < np.ptp(phase) < 18.1 and np.abs(np.diff(phase)).max() < 0.6
    phases = np.array([np.angle(found[name]).ravel() for name in KINDS])
    assert np.abs(np.corrcoef(phases) - np.eye(8)).max() < 0.5


def test_probes_are_unlike_that_of_the_shared_scans() -> None:
    from quality_scans import PROBES

    ring, window, three = (PROBES[name]() for name in ('ring', 'window', 'three modes'))
    assert energy_diameter(ring) == pytest.approx(23, abs=1) and 50 < energy_diameter(window) < 60
    gram = np.einsum('aij,bij->ab', three.conj(), three)
    powers = np.diag(gram).real
    np.testing.assert_allclose(powers[1:] / powers[:-1], 0.35, rtol=1e-6)
    assert np.abs(gram - np.diag(powers)).max() < 1e-9 * powers[0]
    usual = make_probe('defocused', 64)[0]
    likeness = abs(np.vdot(usual, ring[0])) / np.linalg.norm(usual) / np.linalg.norm(ring)
    assert likeness < 0.9


@pytest.mark.skipif(not REFERENCE.exists(), reason='the shared data are not beside the checkout')
def test_measured_probe_and_positions_are_those_of_the_real_scan() -> None:
    from quality_scans import make_scan, measured

    scan = make_scan('page', 'measured', overlap=None, photons=1e3)
    step = np.sort(np.linalg.norm(scan.positions[:, None] - scan.positions, axis=2), axis=1)[:, 1]
    assert len(scan.positions) == 516 and np.median(step) == pytest.approx(9.04 * 78 / 128, rel=0.01)
    assert energy_diameter(measured()) == pytest.approx(44, abs=1.5)
    pupil = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(measured()))))
    assert pupil[32, 32] < 0.5 * pupil.max()  # the real scan's zone plate has a central stop


@pytest.mark.parametrize(('overlap', 'patterns'), [(60.0, 324), (30.0, 100)])
def test_a_scan_has_the_overlap_that_is_asked_for(overlap: float, patterns: int) -> None:
    from quality_scans import every, make_scan

    scan = make_scan('page', 'ring', overlap=overlap, photons=1e3, patterns=patterns)
    side = round(patterns**0.5)
    assert scan.probe is not None and scan.object is not None and len(scan.positions) == patterns
    step = np.diff(scan.positions.reshape(side, side, 2)[:, :, 1], axis=1).mean()
    assert 1 - step / energy_diameter(scan.probe) == pytest.approx(overlap / 100, abs=0.02)
    assert np.asarray(scan.diffraction).sum(axis=(1, 2)).mean() == pytest.approx(1e3 * 0.7, rel=0.3)
    third = every(scan, 3)
    assert np.array_equal(third.positions, scan.positions[::3])
    assert np.array_equal(third.diffraction, np.asarray(scan.diffraction)[::3])


@pytest.fixture(scope='module')
def sound() -> Scan:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from quality_scans import make_scan

        return make_scan('camera', 'ring', overlap=60.0, photons=1e5, patterns=100)


def changed(sound: Scan, fault: str) -> tuple[Scan, Any]:
    """The scan with a fault, and by how much its counts are changed."""
    import faults

    scan = getattr(faults, fault)(sound, np.random.default_rng(0))
    return scan, np.asarray(scan.diffraction).astype(np.int64) - np.asarray(sound.diffraction).astype(np.int64)


def test_faults_of_single_pixels(sound: Scan) -> None:
    hot = changed(sound, 'hot_pixels')[1]
    assert ((hot > 0).all(axis=0)).sum() == ((hot != 0).any(axis=0)).sum() == 20
    cosmic = changed(sound, 'cosmic_hits')[1]
    assert ((cosmic > 0).sum(axis=(1, 2)) == 3).all() and cosmic.max() > 1000 and (cosmic >= 0).all()
    assert len({tuple(np.flatnonzero(pattern)) for pattern in cosmic}) == 100


def test_faults_of_the_detector(sound: Scan) -> None:
    for fault, rows, cols in (('beam_stop', slice(29, 36), slice(29, 36)), ('cross', slice(31, 34), slice(None))):
        scan, difference = changed(sound, fault)
        assert not np.asarray(scan.diffraction)[:, rows, cols].any() and (difference <= 0).all()
        assert not difference[:, :29, :29].any()
    off = np.asarray(changed(sound, 'detector_off')[0].diffraction)
    assert np.array_equal(off[:, 3:, :-3], np.asarray(sound.diffraction)[:, :-3, 3:])
    assert changed(sound, 'background')[1].mean() == pytest.approx(0.5, abs=0.01)


def test_faults_of_frames_positions_and_probe(sound: Scan) -> None:
    blank = np.asarray(changed(sound, 'blank_frames')[0].diffraction).any(axis=(1, 2))
    assert (~blank).sum() == 5
    total = np.asarray(changed(sound, 'flickering')[0].diffraction).sum(axis=(1, 2)) / np.asarray(
        sound.diffraction
    ).sum(axis=(1, 2))
    assert 0.65 < total.min() < 0.8 and 1.25 < total.max() < 1.5
    moved, difference = changed(sound, 'positions_off')
    assert np.std(moved.positions - sound.positions) == pytest.approx(2, abs=0.3) and not difference.any()
    wrong = changed(sound, 'defocus_wrong')[0]
    assert wrong.probe is not None and sound.probe is not None
    assert (np.abs(wrong.probe) ** 2).sum() == pytest.approx((np.abs(sound.probe) ** 2).sum(), rel=1e-5)
    assert abs(np.vdot(wrong.probe, sound.probe)) < 0.95 * (np.abs(sound.probe) ** 2).sum()


def test_faults_of_the_beam(sound: Scan) -> None:
    before = np.asarray(sound.diffraction).sum(axis=(1, 2))
    drift = np.asarray(changed(sound, 'drifting')[0].diffraction).sum(axis=(1, 2)) / before
    assert drift == pytest.approx(np.linspace(1, 0.8, 100), abs=0.01)
    assert np.std(np.asarray(changed(sound, 'flickering_rms')[0].diffraction).sum(axis=(1, 2)) / before) == (
        pytest.approx(0.1, abs=0.02)
    )
    halo = changed(sound, 'scattered')[1]
    assert halo.mean() == pytest.approx(2, abs=0.02) and halo[:, 28:36, 28:36].mean() > 3 * halo[:, :4, :4].mean() > 0
    blurred = changed(sound, 'blurred')[0]
    counts = np.asarray(blurred.diffraction).astype(np.int64)
    assert np.array_equal(counts.sum(axis=(1, 2)), before)
    mean = np.asarray(sound.diffraction).mean(axis=0)
    assert np.abs(counts.mean(axis=0) - ndimage.gaussian_filter(mean, 0.7)).max() < 0.02 * mean.max()


def test_a_probe_whose_defocus_drifts_is_right_in_the_middle_of_the_scan(sound: Scan) -> None:
    """What the patterns of either end are likelier of: the probe of the middle, or one defocused to that side."""
    from faults import defocused, exact, light

    counts = np.asarray(changed(sound, 'defocus_drifting')[0].diffraction).astype(float)

    def prefers(part: slice, defocus: float) -> float:
        index = np.arange(100)[part]
        one, other = exact(sound, defocused(light(sound), defocus), index), exact(sound, light(sound), index)
        return float((counts[part] * np.log((one + 1e-9) / (other + 1e-9)) - one + other).sum())

    assert prefers(slice(0, 6), -7.5) > 100 and prefers(slice(94, 100), 7.5) > 100
    assert prefers(slice(0, 6), 7.5) < -100 and prefers(slice(48, 52), 7.5) < -100


def test_faults_of_the_geometry(sound: Scan) -> None:
    middle = sound.positions.mean(axis=0)
    longer = changed(sound, 'scaled')[0].positions - middle
    assert longer == pytest.approx(1.02 * (sound.positions - middle))
    turned = changed(sound, 'rotated')[0].positions - middle
    assert np.hypot(*turned.T) == pytest.approx(np.hypot(*(sound.positions - middle).T))
    angle = np.arctan2(*turned[0][::-1]) - np.arctan2(*(sound.positions - middle)[0][::-1])
    assert abs(np.rad2deg(angle)) == pytest.approx(1.5)
    for twice in ('swapped', 'flipped', 'transposed', 'conjugate'):
        back = changed(changed(sound, twice)[0], twice)[0]
        assert np.array_equal(back.positions, sound.positions) and np.array_equal(back.diffraction, sound.diffraction)
        assert back.probe is not None and sound.probe is not None and np.array_equal(back.probe, sound.probe)
    assert not np.array_equal(changed(sound, 'flipped')[0].diffraction, sound.diffraction)


def test_pairs_of_faults_keep_both(sound: Scan) -> None:
    from faults import background, both, drifting

    counts = np.asarray(both(background, drifting)(sound, np.random.default_rng(0)).diffraction)
    corner = counts[:, :8, :8].mean(axis=(1, 2))
    assert corner[:20].mean() == pytest.approx(0.5 * 0.98, abs=0.05) and counts[-5:].sum() < 0.9 * counts[:5].sum()


def test_what_is_told_of_a_result_stands_in_the_report() -> None:
    from quality_real import SITUATIONS, cases, judged
    from quality_tables import report, rows_of

    assert [*cases()] == [f'real {kind}, {name}' for kind in ('engine', 'network') for name in SITUATIONS]
    told = {'image': {'phase_psnr': 20.0}, 'residual': 0.1, 'stages': {}, 'peak_memory_mib': 9.0}
    verdict = Verdict(
        'bad', 3.5, 3.0, reasons=(Reason('misfit', 'bad', '', '', ''), Reason('background', 'bad', '', '', ''))
    )
    rows = rows_of('real engine, clean', {}, {'engine': judged(told | {'verdict': verdict.to_json()})})
    text = report(rows)
    assert (
        '## Real scans' in text and '| real engine, clean | engine | 20 | 3.5 | bad | misfit background | 0 |' in text
    )
    assert judged(told | {'verdict': Verdict('good', 1.0, 1.0).to_json()})['reasons'] is None
