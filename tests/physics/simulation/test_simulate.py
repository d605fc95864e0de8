"""Simulated scans: the exact forward model, counting noise, probes, objects; against the shared simulated data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from ptychopinn_reconstructor.errors import ConfigError, InputError, PtychoPINNError
from ptychopinn_reconstructor.physics.probes import CONFINED, PROBES, make_probe, probe_modes
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.simulation.objects import OBJECTS, make_object, random_object
from ptychopinn_reconstructor.physics.simulation.simulate import expected_counts, raster, simulate
from ptychopinn_reconstructor.physics.simulation.textures import TEXTURES
from ptychopinn_reconstructor.scan import Scan


def expected(scan: Scan) -> NDArray[np.float64]:
    assert scan.object is not None and scan.probe is not None
    return np.concatenate(list(expected_counts(scan.object, scan.probe, scan.positions)))


def by_definition(
    object: NDArray[Any], probe: NDArray[Any], center: NDArray[np.float64], half: float, sign: float
) -> NDArray[np.float64]:
    """One pattern by discrete Fourier matrices, no FFT and none of the package's functions."""
    n = probe.shape[-1]
    corner = center - half
    whole = np.floor(corner + 0.5).astype(int)
    x = np.arange(n) - n // 2
    dft = np.exp(-2j * np.pi * np.outer(x, x) / n) / np.sqrt(n)
    row, col = (np.exp(-2j * np.pi * x / n * sign * f) for f in corner - whole)
    patch = object[whole[0] : whole[0] + n, whole[1] : whole[1] + n]
    total = np.zeros((n, n))
    for mode in probe.reshape(-1, n, n):
        shifted = dft.conj().T @ ((dft @ mode @ dft.T) * row[:, None] * col) @ dft.conj()
        total += np.abs(dft @ (shifted * patch) @ dft.T) ** 2
    return total


# --- forward model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('modes', [1, 3])
def test_patterns_follow_the_definition(modes: int) -> None:
    truth = make_object('cells', (80, 84), 1)
    probe = make_probe('defocused', 32, photons=1e4, modes=modes)
    positions = np.array([[15.5, 15.5], [20.3, 40.9], [47.77, 31.01]])
    patterns = np.concatenate(list(expected_counts(truth, probe, positions, block=2)))
    for pattern, center in zip(patterns, positions, strict=True):
        assert np.allclose(pattern, by_definition(truth, probe, center, 15.5, 1.0), rtol=1e-4, atol=1e-4)


@settings(max_examples=15)
@given(st.tuples(st.floats(31.5, 60.0), st.floats(31.5, 60.0)))
def test_a_flat_object_conserves_energy_and_gives_the_probe_s_spectrum(center: tuple[float, float]) -> None:
    probe = make_probe('defocused', 64, photons=1e5)
    pattern = next(expected_counts(np.ones((96, 96)), probe, np.array([center])))[0]
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(probe[0], norm='ortho'))) ** 2
    assert pattern.sum() == pytest.approx(1e5, rel=1e-6)
    assert np.allclose(pattern, spectrum, rtol=1e-4, atol=1e-3)


def test_an_object_absorbs_what_its_exit_wave_lacks() -> None:
    truth, probe = make_object('leaves', (96, 96), 2), make_probe('gaussian', 64, photons=2e4)
    center = np.array([[41.5, 43.5]])
    pattern = next(expected_counts(truth, probe, center))[0]
    exit_wave = probe[0] * truth[10:74, 12:76]
    assert pattern.sum() == pytest.approx(float(np.sum(np.abs(exit_wave) ** 2)), rel=1e-6)


def test_modes_add_in_intensity() -> None:
    truth, probe = make_object('blobs', (96, 96), 3), make_probe('defocused', 64, photons=1e5, modes=3)
    center = np.array([[40.2, 45.8]])
    together = next(expected_counts(truth, probe, center))
    apart = sum(next(expected_counts(truth, mode[None], center)) for mode in probe)
    assert np.allclose(together, apart)


def test_simulated_a_is_reproduced_at_the_counting_noise_floor(shared_data: Path) -> None:
    data = np.load(shared_data / 'simulated_A.npz')
    some = np.arange(0, 1024, 16)
    positions = np.stack([data['ycoords'], data['xcoords']], axis=1)[some]
    measured = data['diff3d'][some].astype(np.float64)
    truth, probe = data['objectGuess'], data['probeGuess']

    def chi_square(patterns: NDArray[np.float64]) -> float:
        bright = patterns > 5
        return float((((measured[: len(patterns)] - patterns) ** 2)[bright] / patterns[bright]).mean())

    ours = np.concatenate(list(expected_counts(truth, probe[None], positions)))
    assert chi_square(ours) == pytest.approx(1.0, abs=0.03)
    for half, sign in ((32.0, 1.0), (31.5, -1.0), (31.5, 0.0)):
        other = np.array([by_definition(truth, probe, p, half, sign) for p in positions[:6]])
        assert chi_square(other) > 1.15


# --- scans -----------------------------------------------------------------------------------------------------------


def test_counts_are_poisson_about_the_expected_pattern() -> None:
    scan = simulate(
        n=32, positions=np.tile([[40.2, 40.7], [44.1, 46.3]], (300, 1)), object='cells', photons=3e5, seed=5
    )
    mean = expected(scan)[:2]
    for i in range(2):
        counts = scan.diffraction[i::2].astype(np.float64)
        bright = mean[i] > 20
        assert (counts.mean(axis=0)[bright] / mean[i][bright]).mean() == pytest.approx(1, abs=0.005)
        assert (counts.var(axis=0)[bright] / mean[i][bright]).mean() == pytest.approx(1, abs=0.03)


def test_the_default_scan_has_absolute_power_and_a_truth_on_its_grid() -> None:
    scan = simulate(positions=100, seed=3)
    assert scan.diffraction.shape == (100, 64, 64) and scan.diffraction.dtype == np.uint16
    assert scan.probe is not None and scan.object is not None
    assert np.sum(np.abs(scan.probe) ** 2) == pytest.approx(1e5, rel=1e-5)
    patterns = expected(scan)
    assert scan.mean_counts == pytest.approx(patterns.sum(axis=(1, 2)).mean(), rel=2e-3)
    bright = patterns > 5
    assert ((scan.diffraction - patterns)[bright] ** 2 / patterns[bright]).mean() == pytest.approx(1, abs=0.03)
    assert np.abs(scan.object).min() >= 0.6 - 1e-6 and np.abs(scan.object).max() <= 1 + 1e-6
    assert np.abs(np.angle(scan.object)).max() <= 1.2 + 1e-6


def test_the_default_object_is_as_hard_as_the_shared_one() -> None:
    for seed in range(2):
        scan = simulate(positions=400, photons=1e3, seed=seed)
        assert scan.object is not None
        flat = compare(np.ones_like(scan.object), (0, 0), scan.object, (0, 0), scan.positions)
        assert 11 < flat.phase_psnr < 15


def test_a_seed_gives_the_same_scan_and_another_seed_another() -> None:
    first, again, other = (simulate(positions=16, seed=s) for s in (7, 7, 8))
    assert np.array_equal(first.diffraction, again.diffraction)
    assert np.array_equal(first.positions, again.positions)
    assert first.object is not None and again.object is not None and np.array_equal(first.object, again.object)
    assert not np.array_equal(first.positions, other.positions)


def test_noise_does_not_move_positions_or_object() -> None:
    weak, strong = simulate(positions=9, photons=1e3, seed=4), simulate(positions=9, photons=1e7, seed=4)
    assert np.array_equal(weak.positions, strong.positions)
    assert weak.object is not None and strong.object is not None and np.array_equal(weak.object, strong.object)


def test_bright_scans_widen_to_32_bits() -> None:
    scan = simulate(positions=4, photons=1e9, probe='airy', object='flat')
    assert scan.diffraction.dtype == np.uint32 and scan.diffraction.max() > 65535
    assert scan.mean_counts == pytest.approx(1e9, rel=1e-3)


@settings(max_examples=30)
@given(st.integers(2, 300), st.floats(1.0, 30.0), st.floats(0.0, 3.0), st.integers(0, 99))
def test_a_raster_has_as_many_points_as_asked_near_square(count: int, step: float, jitter: float, seed: int) -> None:
    points = raster(count, step, jitter, 64, np.random.default_rng(seed))
    assert points.shape == (count, 2)
    assert points.min(axis=0) == pytest.approx([33.5, 33.5])
    columns = int(np.ceil(np.sqrt(count)))
    assert np.all(np.ptp(points, axis=0) <= (columns - 1) * step + 2 * jitter + 1e-9)
    neighbors = np.diff(points[:columns, 1])
    assert np.all(np.abs(neighbors - step) <= 2 * jitter + 1e-9)


@pytest.mark.parametrize('n', [32, 64, 128])
def test_every_patch_lies_on_the_object(n: int) -> None:
    scan = simulate(n=n, positions=37, seed=1)
    assert scan.object is not None
    corners = np.rint(scan.positions - (n - 1) / 2)
    assert corners.min() >= 0 and np.all(corners.max(axis=0) + n <= scan.object.shape)


def test_given_positions_object_and_probe_are_used_as_they_are() -> None:
    truth, probe = make_object('lines', (90, 100), 0), make_probe('gaussian', 32, modes=2)
    positions = np.array([[20.0, 20.0], [60.5, 70.25], [40.0, 33.3]])
    scan = simulate(object=truth, probe=probe, positions=positions, photons=1e4)
    assert scan.probe is not None and scan.object is not None and scan.n_pixels == 32
    assert np.array_equal(scan.object, truth) and np.array_equal(scan.positions, positions)
    assert np.allclose(scan.probe, probe * 100, rtol=1e-5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'object': 'cats'}, "object 'cats' is unknown; choose one of cells, "),
        ({'probe': 'cats'}, "probe 'cats' is unknown; choose one of defocused, "),
        ({'n': 62}, 'N is 62'),
        ({'n': 8}, 'N is 8'),
        ({'step': 0.0}, 'step is 0'),
        ({'step': float('nan')}, 'step is nan'),
        ({'step': 1e9}, 'span more than 32768 pixels'),
        ({'jitter': -1.0}, 'jitter is -1'),
        ({'photons': 0.0}, 'photons is 0'),
        ({'photons': 1e15, 'probe': 'airy', 'object': 'flat'}, 'use fewer photons'),
        ({'positions': 1}, 'positions is 1'),
        ({'modes': 0}, 'modes is 0'),
        ({'modes': 17}, 'modes is 17'),
        ({'seed': -1}, 'seed is -1'),
        ({'n': 64, 'probe': np.ones((32, 32))}, '32 pixels wide but the patterns are 64'),
        ({'probe': np.ones((2, 32, 32)), 'modes': 3}, 'has 2 modes and modes is 3'),
        ({'object': np.ones((64, 64))}, 'object has 64 x 64 pixels'),
        ({'object': np.ones(64)}, r'shape \(64,\)'),
        ({'positions': np.array([[3.0, 40.0], [40.0, 40.0]])}, 'rows -28 to'),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PtychoPINNError, match=message) as caught:
        simulate(**{'positions': 9, **options})
    assert isinstance(caught.value, InputError) and caught.value.exit_code == 2


# --- probes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('n', [32, 64, 128])
@pytest.mark.parametrize('name', list(CONFINED))
def test_probes_have_the_power_asked_for_and_lie_in_the_middle(name: str, n: int) -> None:
    probe = make_probe(name, n, photons=5e3)
    intensity = np.abs(probe[0]) ** 2
    assert probe.shape == (1, n, n) and intensity.sum() == pytest.approx(5e3)
    for axis in (0, 1):
        assert intensity.sum(axis=axis) @ np.arange(n) / 5e3 == pytest.approx(n / 2, abs=0.3)
    inner = slice(n // 4, 3 * n // 4)
    assert intensity[inner, inner].sum() / 5e3 > 0.85


def test_the_defocused_probe_is_that_of_the_shared_scans(shared_data: Path) -> None:
    given = np.load(shared_data / 'simulated_A.npz')['probeGuess']
    ours = make_probe('defocused', 64, photons=1e5)[0]
    assert abs(np.vdot(ours, given)) / 1e5 == pytest.approx(1.0, abs=1e-6)
    assert (np.abs(ours[16:48, 16:48]) ** 2).sum() / 1e5 == pytest.approx(0.986, abs=0.001)


@settings(max_examples=6)
@given(st.integers(1, 16), st.sampled_from(sorted(PROBES)))
def test_modes_are_orthogonal_of_falling_power_and_keep_the_total(modes: int, name: str) -> None:
    probe = make_probe(name, 64, photons=1e4)[0]
    built = probe_modes(probe, modes)
    gram = np.einsum('aij,bij->ab', built.conj(), built)
    powers = gram.diagonal().real
    assert powers.sum() == pytest.approx(1e4)
    assert np.abs(gram - np.diag(powers)).max() < 1e-6 * powers.max()
    assert powers[1:] == pytest.approx(0.35 * powers[:-1])
    assert np.abs(np.vdot(built[0], probe)) == pytest.approx(np.sqrt(powers[0] * 1e4))


def test_mode_powers_can_be_given() -> None:
    built = probe_modes(make_probe('gaussian', 32, photons=100)[0], 3, powers=np.array([7.0, 2.0, 1.0]))
    assert (np.abs(built) ** 2).sum(axis=(1, 2)) == pytest.approx([70, 20, 10])
    with pytest.raises(ConfigError, match='3 positive numbers'):
        probe_modes(built[0], 3, powers=np.array([1.0, 0.0, 1.0]))


# --- objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', [n for n in OBJECTS if n != 'flat'])
def test_named_objects_are_deterministic_and_in_range(name: str) -> None:
    first, again, other = (make_object(name, (100, 140), seed) for seed in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (100, 140) and first.dtype == np.complex64
    assert np.abs(first).min() == pytest.approx(0.6, abs=1e-3) and np.abs(first).max() == pytest.approx(1, abs=1e-3)
    assert 0.9 - 1e-3 <= np.abs(np.angle(first)).max() <= 1.2 + 1e-3
    assert np.angle(first).std() > 0.15
    assert np.abs(np.diff(np.abs(first), axis=0)).max() < 0.3  # smooth edges: no step takes the whole range in a pixel


def test_a_flat_object_is_one() -> None:
    assert np.array_equal(make_object('flat', (20, 30)), np.ones((20, 30), dtype=np.complex64))


@pytest.mark.parametrize('name', list(TEXTURES))
def test_textures_are_images_between_zero_and_one(name: str) -> None:
    for seed in range(5):
        image = TEXTURES[name](np.random.default_rng(seed), (64, 96))
        assert image.shape == (64, 96) and np.isfinite(image).all()
        assert image.min() >= 0 and image.max() <= 1 and np.ptp(image) > 0.2


def test_random_objects_cover_many_kinds_and_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_object(rng, (64, 64)) for _ in range(60)]
    assert all(o.shape == (64, 64) and o.dtype == np.complex64 and np.isfinite(o).all() for o in drawn)
    amplitudes = np.array([np.abs(o) for o in drawn])
    assert amplitudes.max() <= 1.1 + 1e-6
    assert 5 <= (amplitudes.min(axis=(1, 2)) < 0.2 - 1e-6).sum() <= 20  # of sixty, that absorb strongly
    spreads = np.array([np.angle(o).std() for o in drawn])
    assert (spreads < 1e-6).sum() >= 1 and (spreads > 0.5).sum() >= 5
    phases = np.unwrap(np.unwrap(np.angle(drawn), axis=1), axis=2)  # right where it is smooth
    assert (np.ptp(ndimage.gaussian_filter(phases, (0, 2, 2)), axis=(1, 2)) > 2 * np.pi).any()
    again = [random_object(rng, (64, 64)) for rng in [np.random.default_rng(0)] for _ in range(3)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=False))


def test_objects_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ConfigError, match='choose one of'):
        make_object('nothing', (64, 64))
    with pytest.raises(ConfigError, match='8 x 64'):
        make_object('cells', (8, 64))
