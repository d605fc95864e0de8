"""Counts to network input, and the absolute amplitude of the probe (contracts AMPLITUDE, NORMALISATION, MODES)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.config import ModelConfig
from ptychopinn_reconstructor.errors import ConfigError, ScanError
from ptychopinn_reconstructor.io import read_probe, read_scan
from ptychopinn_reconstructor.physics.scaling import (
    InputScaler,
    ProbePower,
    crop_support,
    mask_probe,
    probe_power,
    resolve_probe_power,
)

N = 32


def make_probe(modes: int = 1, power: float = 5e4) -> NDArray[np.complex64]:
    """Speckle under a Gaussian: its far field is nowhere dark, so that every phase of the input is defined."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    speckle = rng.normal(size=(modes, N, N)) + 1j * rng.normal(size=(modes, N, N))
    probe = np.exp(-(y**2 + x**2) / (2 * 5.0**2)) * speckle
    return np.asarray(probe * np.sqrt(power / (np.abs(probe) ** 2).sum()), dtype=np.complex64)


def make_counts(count: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(9).poisson(40.0, (count, N, N)).astype(np.float32)


@pytest.mark.parametrize(
    ('scan', 'probe', 'ratio', 'choice'),
    [
        ('simulated_A', None, 0.63, 'absolute'),
        ('simulated_B', None, 0.57, 'absolute'),
        ('siemens_star_velociprobe', 'siemens_star_reference.npz', 1.01, 'absolute'),
        ('siemens_star_velociprobe', None, 8.9e3, 'from_counts'),
    ],
)
def test_gauge_of_the_real_files(shared_data: Path, scan: str, probe: str | None, ratio: float, choice: str) -> None:
    """AMPLITUDE: q and the choice for the probes of the shared scans."""
    data = read_scan(shared_data / f'{scan}.npz').scan
    handed_in = data.probe if probe is None else read_probe(f'{shared_data / probe}:probe')
    assert handed_in is not None
    found = resolve_probe_power(handed_in, data.mean_counts)
    assert found.choice == choice
    assert found.ratio == pytest.approx(ratio, rel=0.01)
    power = probe_power(found.probe)
    assert power == pytest.approx(probe_power(handed_in) if choice == 'absolute' else data.mean_counts, rel=1e-5)


@pytest.mark.parametrize(
    ('ratio', 'choice'),
    [(0.2, 'absolute'), (1.1, 'absolute'), (0.1999, 'from_counts'), (1.1001, 'from_counts'), (8e3, 'from_counts')],
)
def test_auto_trusts_a_probe_between_its_borders(ratio: float, choice: str) -> None:
    """AMPLITUDE: 0.2 <= q <= 1.1."""
    probe = np.zeros((1, N, N), dtype=np.complex64)
    probe[0, 3, 5] = 1j
    found = resolve_probe_power(probe, ratio)
    assert (found.ratio, found.choice) == (ratio, choice)
    expected = probe * (1.0 if choice == 'absolute' else np.sqrt(ratio))
    np.testing.assert_allclose(found.probe, expected, rtol=1e-6)


@pytest.mark.parametrize('modes', [1, 3])
def test_absolute_keeps_the_probe_and_from_counts_makes_its_unit_irrelevant(modes: int) -> None:
    """AMPLITUDE, MODES: the power is that of all modes together; from_counts keeps their relative power."""
    probe = make_probe(modes)
    np.testing.assert_array_equal(resolve_probe_power(probe, 123.0, 'absolute').probe, probe)
    first = resolve_probe_power(probe, 123.0, 'from_counts')
    other = resolve_probe_power((probe * 7e-4).astype(np.complex64), 123.0, 'from_counts')
    np.testing.assert_allclose((np.abs(first.probe.astype(complex)) ** 2).sum(), 123.0, rtol=1e-5)
    np.testing.assert_allclose(first.probe, other.probe, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(other.ratio, first.ratio / 7e-4**2, rtol=1e-5)
    assert first.probe.dtype == np.complex64


@pytest.mark.parametrize(
    ('brightest', 'mode', 'raised'),
    [(1.05, 'auto', 1.0), (1.3, 'auto', 1.3), (1.3, 'absolute', 1.0), (0.9, 'auto', 1.0)],
)
def test_a_power_that_the_brightest_patterns_exceed_is_raised_to_theirs(
    brightest: float, mode: ProbePower, raised: float
) -> None:
    """AMPLITUDE: no object lets more light pass than there is; a power that was asked for stays."""
    probe = make_probe(2)
    power = probe_power(probe)
    found = resolve_probe_power(probe, 0.8 * power, mode, brightest=brightest * power)
    assert (found.choice, found.held) == ('absolute', mode != 'auto')
    assert found.raised == pytest.approx(raised)
    assert probe_power(found.probe) == pytest.approx(raised * power, rel=1e-5)


def test_an_unknown_mode_is_refused() -> None:
    """AMPLITUDE."""
    with pytest.raises(ConfigError, match=r"'guess'.*'auto', 'absolute' or 'from_counts'"):
        resolve_probe_power(make_probe(), 1.0, 'guess')  # type: ignore[arg-type]


def direct_input(counts: NDArray[np.float64], probe: NDArray[np.complex128]) -> tuple[NDArray[np.float64], ...]:
    """The formulas of docs/method.md for one pattern and one guiding mode, by explicit Fourier sums in double."""
    side = len(counts)
    x = np.arange(side)
    k = np.fft.fftshift(np.fft.fftfreq(side))
    transform = np.exp(-2j * np.pi * np.outer(k, x)) / np.sqrt(side)
    field = transform @ probe @ transform.T
    turn = field / np.sqrt(np.abs(field) ** 2 + (0.01 * np.abs(field).max()) ** 2)
    wave = np.conj(transform.T) @ (np.sqrt(counts) * turn) @ np.conj(transform)
    density = np.abs(probe) ** 2
    back = np.conj(probe) * wave / (density + 0.05 * density.max())
    return back[side // 4 : -side // 4, side // 4 : -side // 4], np.sqrt(counts)


def test_network_input_equals_the_direct_formula() -> None:
    """NORMALISATION: root4 and back-projection of docs/method.md; float32 of the documented shapes."""
    probe, counts = make_probe(), make_counts()
    found = InputScaler(probe).counts_to_input(counts)
    unit = np.sqrt((np.abs(probe.astype(complex)) ** 2).sum()) / N
    for i, pattern in enumerate(counts.astype(float)):
        back, amplitude = direct_input(pattern, probe[0].astype(complex))
        np.testing.assert_allclose(found.root4[i], np.sqrt(amplitude / unit), rtol=1e-5)
        np.testing.assert_allclose(found.backprojection[i, 0], back.real, atol=2e-5 * np.abs(back).max())
        np.testing.assert_allclose(found.backprojection[i, 1], back.imag, atol=2e-5 * np.abs(back).max())
    assert found.root4.dtype == found.backprojection.dtype == np.float32
    assert found.root4.shape == (3, N, N)
    assert found.backprojection.shape == (3, 2, N // 2, N // 2)


def test_an_empty_pattern_gives_its_support_back() -> None:
    """NORMALISATION: without an object the back-projection is |P|^2 / (|P|^2 + 0.05 max): real, 1 where P is strong."""
    probe = make_probe()
    empty = np.abs(np.fft.fftshift(np.fft.fft2(probe[0], norm='ortho'))) ** 2
    found = InputScaler(probe).counts_to_input(empty[None].astype(np.float32)).backprojection[0]
    density = np.abs(probe[0]) ** 2
    expected = crop_support(density / (density + 0.05 * density.max()), N // 2)
    # Where the far field is darker than 1 % of its maximum it is faded out, so not exactly.
    np.testing.assert_allclose(found[0], expected, atol=2e-3)
    np.testing.assert_allclose(found[1], 0, atol=2e-3)


def test_the_input_does_not_depend_on_the_unit_of_the_counts() -> None:
    """NORMALISATION: counts and probe power times 1e3 are the same input, so this is the one place that normalizes."""
    probe, counts = make_probe(), make_counts()
    first = InputScaler(probe).counts_to_input(counts)
    second = InputScaler((probe * np.sqrt(1e3)).astype(np.complex64)).counts_to_input(counts * np.float32(1e3))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(one).max())


def test_a_probe_with_a_dark_far_field_gives_a_reproducible_input(shared_data: Path) -> None:
    """AMPLITUDE, CHECKPOINT: the unit of the probe, or another Fourier transform's rounding, must not change the input.

    Outside its pupil, 70 % of the pixels, simulated_A's probe has a far field below 1e-6 of its maximum.
    """
    scan = read_scan(shared_data / 'simulated_A.npz').scan
    assert scan.probe is not None
    counts = scan.counts(slice(0, 8))
    first = InputScaler(scan.probe).counts_to_input(counts).backprojection
    rescaled = (scan.probe * np.float32(0.7316)).astype(np.complex64)
    second = InputScaler(rescaled).counts_to_input(counts).backprojection * 0.7316
    np.testing.assert_allclose(first, second, atol=1e-4 * np.abs(first).max())


def test_the_strongest_mode_guides_and_the_scale_counts_all_modes() -> None:
    """MODES: the back-projection is that of the strongest mode, wherever it stands; s is of the whole probe."""
    weak, counts = make_probe(3), make_counts()
    weak[[0, 2]] *= 0.3
    found = InputScaler(weak).counts_to_input(counts)
    alone = InputScaler(weak[1:2]).counts_to_input(counts)
    np.testing.assert_array_equal(found.backprojection, alone.backprojection)
    factor = (probe_power(weak[1]) / probe_power(weak)) ** 0.25
    np.testing.assert_allclose(found.root4, alone.root4 * factor, rtol=1e-5)


def test_bad_pixels_change_nothing() -> None:
    """NORMALISATION: whatever a bad pixel holds, the input is the same; good pixels keep their own root4."""
    rng = np.random.default_rng(10)
    probe, counts, bad = make_probe(2), make_counts(), rng.uniform(size=(N, N)) < 0.15
    scaler = InputScaler(probe, bad)
    first = scaler.counts_to_input(counts)
    before = counts.copy()
    for garbage in (0.0, 1e9):
        changed = np.where(bad, np.float32(garbage), counts)
        second = scaler.counts_to_input(changed)
        np.testing.assert_array_equal(first.root4, second.root4)
        np.testing.assert_array_equal(first.backprojection, second.backprojection)
    np.testing.assert_array_equal(counts, before)
    unmasked = InputScaler(probe).counts_to_input(counts)
    np.testing.assert_array_equal(first.root4[:, ~bad], unmasked.root4[:, ~bad])
    assert all(array.dtype == np.float32 for array in first)


def test_bad_pixels_are_filled_from_the_empty_pattern() -> None:
    """NORMALISATION: an empty pattern, attenuated, with a gap, gives the input of the same pattern without."""
    probe = make_probe(2)
    empty = (np.abs(np.fft.fftshift(np.fft.fft2(probe, norm='ortho'), axes=(1, 2))) ** 2).sum(axis=0)
    counts = (0.4 * empty)[None].astype(np.float32)
    bad = np.zeros((N, N), dtype=bool)
    bad[10:13] = True
    masked = np.where(bad, np.float32(0), counts)
    for one, other in zip(
        InputScaler(probe, bad).counts_to_input(masked), InputScaler(probe).counts_to_input(counts), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(other).max())


def test_patterns_without_a_single_count_are_finite() -> None:
    """NANSAFE."""
    bad = np.zeros((N, N), dtype=bool)
    bad[0] = True
    found = InputScaler(make_probe(), bad).counts_to_input(np.zeros((1, N, N), dtype=np.float32))
    assert all(not array.any() for array in found)


@pytest.mark.parametrize('n_pixels', [16, 64, 128])
@pytest.mark.parametrize(
    ('settings', 'part'),
    [({}, 0.5), ({'probe_big': False}, 0.5), ({'probe_big': True}, 0.75), ({'pad_object': False}, 1.0)],
)
def test_a_patch_is_the_middle_of_its_window(n_pixels: int, settings: dict[str, Any], part: float) -> None:
    """N, SETTINGS: N/2 pixels, 3/4 N with probe_big, N unless padded; its center is that of the pattern's grid."""
    n = ModelConfig(N=n_pixels, **settings).patch_size
    assert n == part * n_pixels
    coordinates = np.arange(n_pixels)[:, None] + 0 * np.arange(n_pixels)
    cut = crop_support(coordinates, n)
    assert cut.shape == (n, n)
    assert cut.mean() == (n_pixels - 1) / 2


def test_a_masked_probe_is_a_circle_of_the_same_power() -> None:
    """S3, SETTINGS: zero outside the diameter N/2, unchanged but for one factor inside, over all modes."""
    rng = np.random.default_rng(1)
    probe = (rng.normal(size=(2, N, N)) + 1j * rng.normal(size=(2, N, N))).astype(np.complex64)
    found = mask_probe(probe)
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    inside = np.hypot(y, x) <= N / 4
    assert not found[:, ~inside].any() and found.dtype == np.complex64
    factor = found[:, inside] / probe[:, inside]
    np.testing.assert_allclose(factor, factor[0, 0], rtol=1e-5)
    assert probe_power(found) == pytest.approx(probe_power(probe), rel=1e-5)
    probe[:, inside] = 0
    with pytest.raises(ScanError, match=r'no light within 8 pixels.*probe_mask'):
        mask_probe(probe)


@pytest.mark.parametrize('n', [N // 2, 3 * N // 4, N])
def test_a_larger_patch_sees_more_of_the_same_back_projection(n: int) -> None:
    """SETTINGS: probe_big and pad_object crop the back-projection wider, and change nothing else of the input."""
    whole = InputScaler(make_probe(), patch_size=N).counts_to_input(make_counts())
    found = InputScaler(make_probe(), patch_size=n).counts_to_input(make_counts())
    assert found.backprojection.shape == (3, 2, n, n)
    np.testing.assert_array_equal(found.backprojection, crop_support(whole.backprojection, n))
    np.testing.assert_array_equal(found.root4, whole.root4)
