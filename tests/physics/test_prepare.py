"""Prepared scans: canonical order, network input, labels (contracts LABELS, OFFSETS, N, AMPLITUDE, COVERAGE)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import ConfigError, ScanError
from ptychopinn_reconstructor.physics import prepare
from ptychopinn_reconstructor.physics.geometry import fourier_shift, gather_patches
from ptychopinn_reconstructor.physics.scaling import ProbePower, crop_support, probe_power
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

N = 64
Continuous = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex128]]


def blob(center: tuple[float, float]) -> Continuous:
    """A narrow complex object on continuous coordinates, zero well before the border of a label."""

    def value(row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.complex128]:
        y, x = row - center[0], col - center[1]
        return np.asarray(np.exp(-(y**2 + x**2) / (2 * 2.2**2)) * (1 + 0.3 * y - 0.2j * x))

    return value


def grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, cols = np.mgrid[:height, :width].astype(float)
    return rows, cols


def small_scan(seed: int = 0, n: int = 24, **changes: object) -> Scan:
    """Patterns that can be told apart, at positions of which some coincide in one coordinate."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 12, (n, 2)).round(2)
    positions[: n // 2, 0] = np.repeat(np.arange(n // 4), 2) * 1.5
    fields: dict[str, object] = {
        'diffraction': rng.poisson(6.0, (n, 16, 16)).astype(np.uint16),
        'positions': positions,
        'probe': (rng.normal(size=(2, 16, 16)) + 1j * rng.normal(size=(2, 16, 16))).astype(np.complex64),
    }
    return Scan(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize('seed', range(4))
def test_labels_are_the_object_in_the_frame_of_the_probe(seed: int) -> None:
    """LABELS: at arbitrary fractional positions and object origins.

    A label samples the object at the pixels of the probe's own grid, and shifted by +f and put at r it is the object
    on the canvas: both against the continuous object.
    """
    rng = np.random.default_rng(seed)
    origin = tuple(rng.uniform(60, 80, 2))
    positions = rng.uniform(-3, 3, (6, 2))
    truth = blob((origin[0] + 0.4, origin[1] - 0.7))
    scan = Scan(
        diffraction=np.ones((6, N, N), np.uint8),
        positions=positions,
        probe=np.ones((N, N), np.complex64),
        object=truth(*grid(140, 150)).astype(np.complex64),
        object_origin=(float(origin[0]), float(origin[1])),
    )
    prepared = prepare.prepare_scan(scan)
    everything = np.arange(6)
    labels = prepared.labels(everything)
    assert labels.shape == (6, N // 2, N // 2)
    rows, cols = grid(N // 2, N // 2)
    for label, position in zip(labels, positions[prepared.order], strict=True):
        corner = position + origin - (N // 2 - 1) / 2
        np.testing.assert_allclose(label, truth(rows + corner[0], cols + corner[1]), atol=2e-5)
    laid = prepared.layout
    placed = fourier_shift(labels, laid.fractions)
    for image, corner in zip(placed, laid.corners + N // 4 - np.array(laid.origin) + origin, strict=True):
        np.testing.assert_allclose(image, truth(rows + corner[0], cols + corner[1]), atol=2e-5)


def test_labels_under_the_probe_give_the_patterns() -> None:
    """LABELS, AMPLITUDE: the exit wave of a label predicts the pattern; unshifted or shifted by +f it does so worse."""
    scan = simulate(n=64, positions=16, photons=1e6, probe='flat_top', jitter=1.5, seed=3)
    assert scan.object is not None
    prepared = prepare.prepare_scan(scan)
    counts = prepared.counts(np.arange(16))

    def misfit(labels: NDArray[np.complex64]) -> float:
        wave = np.zeros((16, 64, 64), dtype=complex)
        wave[:, 16:48, 16:48] = labels * prepared.probe[0, 16:48, 16:48]
        predicted = np.abs(np.fft.fftshift(np.fft.fft2(wave, norm='ortho'), axes=(1, 2))) ** 2
        return float(((np.sqrt(predicted) - np.sqrt(counts)) ** 2).sum() / counts.sum())

    corners = scan.positions[prepared.order] - 31.5
    whole = np.rint(corners).astype(int)
    windows = gather_patches(scan.object, whole, 64)
    right = misfit(prepared.labels(np.arange(16)))
    assert right < 1.5e-3  # the probe has 0.1 % of its power outside the label
    assert right < 0.7 * misfit(crop_support(windows, 32))
    assert right < 0.3 * misfit(crop_support(fourier_shift(windows, corners - whole), 32))


def test_a_larger_patch_holds_more_of_a_probe_with_tails() -> None:
    """SETTINGS: with 11 % of the probe outside N/2 the label of N/2 leaves much unexplained, that of 3/4 N little."""
    scan = simulate(n=64, positions=16, photons=1e6, probe='gaussian', step=4.0, seed=3)
    y, x = np.mgrid[:64, :64] - 31.5
    probe = 60 * np.exp(-(y**2 + x**2) / (2 * 12.0**2))[None].astype(np.complex64)
    assert scan.object is not None

    def misfit(n: int) -> float:
        prepared = prepare.prepare_scan(scan, probe=probe, mode='absolute', patch_size=n)
        index, inset = np.arange(16), (64 - n) // 2
        window, margin = prepared.labels(index), [(0, 0), (inset, inset), (inset, inset)]
        wave = probe[0] * np.pad(window, margin)
        whole = probe[0] * prepare.prepare_scan(scan, probe=probe, mode='absolute', patch_size=64).labels(index)
        return float((np.abs(wave - whole) ** 2).sum() / (np.abs(whole) ** 2).sum())

    assert misfit(32) > 0.01
    assert misfit(48) < 0.2 * misfit(32)
    assert misfit(64) == 0


@pytest.mark.parametrize('mode', ['absolute', 'from_counts'])
def test_probe_scale_comes_after_the_power(mode: ProbePower) -> None:
    """S4, SETTINGS: one factor on the amplitude whatever the gauge; the network's input is that of a weaker object."""
    scan = small_scan()
    plain, scaled = (prepare.prepare_scan(scan, mode=mode, probe_scale=factor) for factor in (1.0, 2.0))
    np.testing.assert_allclose(scaled.probe, 2 * plain.probe, rtol=1e-6)
    assert scaled.gauge[1:] == plain.gauge[1:]
    one, two = (prepared.patterns(np.arange(4)) for prepared in (plain, scaled))
    np.testing.assert_allclose(two.backprojection, one.backprojection / 2, rtol=1e-4, atol=1e-6)


def test_a_masked_probe_is_resolved_with_its_power() -> None:
    """S3: the gauge, and with it the mean amplitude of the object, is that of the whole probe."""
    scan = small_scan()
    plain, masked = (prepare.prepare_scan(scan, probe_mask=on) for on in (False, True))
    assert (masked.probe[:, 0] == 0).all() and not (plain.probe[:, 0] == 0).all()
    assert probe_power(masked.probe) == pytest.approx(probe_power(plain.probe), rel=1e-5)
    assert masked.gauge.choice == plain.gauge.choice


def test_labels_need_an_object_that_covers_the_scan() -> None:
    """SUPERVISED: one sentence each."""
    with pytest.raises(ScanError, match='needs an object'):
        prepare.prepare_scan(small_scan()).labels(np.arange(2))
    for origin in ((0.0, 0.0), (20.0, 40.0)):
        scan = small_scan(object=np.ones((40, 40), np.complex64), object_origin=origin)
        with pytest.raises(ScanError, match=r'40 x 40 pixels and does not cover every scan position'):
            prepare.prepare_scan(scan).labels(np.arange(24))
    fitting = small_scan(object=np.ones((40, 40), np.complex64), object_origin=(10.0, 10.0))
    np.testing.assert_allclose(prepare.prepare_scan(fitting).labels(np.arange(24)), 1, atol=1e-5)


@pytest.mark.parametrize('constant', [(0.0, 0.0), (0.3, -0.4), (17.25, 1e4)])
def test_a_prepared_scan_does_not_depend_on_the_order_of_the_patterns(constant: tuple[float, float]) -> None:
    """OFFSETS: another order and a constant on all positions give the same batches to the last bit."""
    scan = small_scan()
    shuffled = np.random.default_rng(1).permutation(len(scan))
    other = small_scan(
        diffraction=np.asarray(scan.diffraction)[shuffled], positions=scan.positions[shuffled] + np.array(constant)
    )
    first, second = prepare.prepare_scan(scan), prepare.prepare_scan(other)
    np.testing.assert_array_equal(shuffled[second.order], first.order)
    np.testing.assert_array_equal(first.positions, second.positions)
    index = np.array([3, 0, 17, 23])
    for one, two in zip(first.patterns(index), second.patterns(index), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_batch_holds_what_belongs_together() -> None:
    """COVERAGE: counts, input, corner and fraction of each pattern, in canonical order; indices refer to it."""
    scan = small_scan(domain='amplitude')
    prepared = prepare.prepare_scan(scan)
    assert len(prepared) == 24
    assert (np.diff(prepared.positions[:, 0]) >= 0).all()
    index = np.array([5, 2])
    batch = prepared.patterns(index)
    np.testing.assert_allclose(batch.counts, np.asarray(scan.diffraction)[prepared.order[index]].astype(float) ** 2)
    np.testing.assert_allclose(batch.root4**4 * prepared.scaler.amplitude_unit**2, batch.counts, rtol=1e-4, atol=1e-5)
    centers = scan.positions[prepared.order[index]] + prepared.layout.origin
    np.testing.assert_allclose(batch.corners + batch.fractions, centers - 7.5, atol=1e-6)
    seen = np.concatenate(list(prepared.batches(7)))
    np.testing.assert_array_equal(seen, np.arange(24))


def test_bad_pixels_are_not_good() -> None:
    """The mask for the losses is the opposite of the scan's."""
    bad = np.zeros((16, 16), dtype=bool)
    bad[3, 4] = True
    np.testing.assert_array_equal(prepare.prepare_scan(small_scan(bad_pixels=bad)).good, ~bad)
    assert prepare.prepare_scan(small_scan()).good.all()


@pytest.mark.parametrize('mode', ['auto', 'from_counts'])
def test_bad_pixels_do_not_change_the_gauge(mode: ProbePower) -> None:
    """AMPLITUDE: a detector gap hides counts, which is not absorption: q and the probe's power stay within 4 %."""
    scan = simulate(n=64, positions=36, photons=1e5, seed=1)
    bad = np.zeros((64, 64), dtype=bool)
    bad[22:28] = True
    masked = Scan(diffraction=scan.diffraction, positions=scan.positions, probe=scan.probe, bad_pixels=bad)
    assert masked.mean_counts < 0.85 * scan.mean_counts
    whole, gap = (prepare.prepare_scan(s, mode=mode).gauge for s in (scan, masked))
    assert whole.choice == gap.choice
    assert gap.ratio == pytest.approx(whole.ratio, rel=0.04)
    assert probe_power(gap.probe) == pytest.approx(probe_power(whole.probe), rel=0.04)


def test_a_beam_stop_over_the_whole_probe_stays_finite() -> None:
    """AMPLITUDE: where the unscattered probe is hidden entirely, nothing is extrapolated beyond ten times."""
    scan = simulate(n=64, positions=9, photons=1e5, seed=1)
    bad = np.zeros((64, 64), dtype=bool)
    bad[14:50, 14:50] = True
    masked = Scan(diffraction=scan.diffraction, positions=scan.positions, probe=scan.probe, bad_pixels=bad)
    gauge = prepare.prepare_scan(masked, mode='from_counts').gauge
    assert probe_power(gauge.probe) <= 10.01 * masked.mean_counts


def test_another_probe_takes_the_place_of_the_scans() -> None:
    """TYPES: (N, N) of any complex type becomes (modes, N, N) complex64; another side is refused."""
    scan = small_scan()
    probe = np.exp(1j * np.arange(256.0).reshape(16, 16))
    found = prepare.prepare_scan(scan, probe=probe, mode='absolute').probe
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, probe[None], atol=1e-6)
    with pytest.raises(ScanError, match='20 pixels wide but the patterns are 16'):
        prepare.prepare_scan(scan, probe=np.ones((20, 20), np.complex64))


def test_missing_probe_and_wrong_size_are_refused() -> None:
    """N: a multiple of the network's stride; and no reconstruction without a probe."""
    with pytest.raises(ScanError, match=r'no probe.*probe='):
        prepare.prepare_scan(small_scan(probe=None))
    with pytest.raises(ConfigError, match=r'N is 16 .* multiple of 32'):
        prepare.prepare_scan(small_scan(), stride=32)


@given(st.integers(1, 700), st.integers(1, 300))
def test_even_batches(n: int, size: int) -> None:
    """DENSE, COVERAGE: every index once and in order, at most `size` a batch, lengths equal to one."""
    batches = prepare.even_batches(np.arange(n), size)
    lengths = [len(batch) for batch in batches]
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(n))
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) > 0
    assert len(batches) == -(-n // size)


def test_even_batches_of_the_star() -> None:
    """516 patterns at most 512 a batch are 258 + 258."""
    assert [len(batch) for batch in prepare.even_batches(np.arange(516), 512)] == [258, 258]
