"""Modes of a probe: orthogonal, their power held, and as many as the patterns ask for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.engine.modes import (
    NEW_SHARE,
    add_mode,
    asks_after,
    brightest_amplitude,
    orthogonalize,
    set_number,
)
from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import Refined, refine, scan_dose
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.probes import make_probe
from ptychopinn_reconstructor.physics.sampling import scan_overlap
from ptychopinn_reconstructor.physics.scoring.metrics import Comparison, compare
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.scan import Scan

N = 32


def mixed(count: int, seed: int = 0) -> NDArray[np.complex64]:
    """Modes that are not orthogonal."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, N, N)) + 1j * rng.normal(size=(count, N, N))).astype(np.complex64)


def mutual_intensity(probe: NDArray[np.complex64]) -> NDArray[np.complex128]:
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    return np.asarray(flat.T @ flat.conj())


def gram(probe: NDArray[np.complex64]) -> NDArray[np.complex128]:
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    return np.asarray(flat @ flat.conj().T)


@pytest.mark.parametrize('count', [1, 2, 5])
def test_orthogonal_modes_have_the_same_mutual_intensity_the_strongest_first(count: int) -> None:
    """What can be measured of a probe, sum P(x) conj(P(y)), is untouched; no two modes have anything in common."""
    probe = mixed(count)
    found = orthogonalize(probe)
    np.testing.assert_allclose(mutual_intensity(found), mutual_intensity(probe), atol=1e-4)
    between = gram(found)
    power = between.diagonal().real
    np.testing.assert_allclose(between - np.diag(power), 0, atol=1e-4 * power.max())
    assert (np.diff(power) <= 0).all()


def test_a_new_mode_has_its_share_of_the_power_and_nothing_in_common_with_the_others() -> None:
    """The total power is held, and so are the relative powers of the modes that were there."""
    probe = orthogonalize(make_probe('airy', N, photons=1e4, modes=2).astype(np.complex64))
    found = add_mode(probe)
    power, before = gram(found).diagonal().real, gram(probe).diagonal().real
    np.testing.assert_allclose(power.sum(), before.sum(), rtol=1e-5)
    np.testing.assert_allclose(power[2], NEW_SHARE * before.sum(), rtol=1e-5)
    np.testing.assert_allclose(power[:2] / before, 1 - NEW_SHARE, rtol=1e-5)
    np.testing.assert_allclose(gram(found)[2, :2], 0, atol=1e-3 * power[2])


@pytest.mark.parametrize('number', [1, 2, 3, 5])
def test_so_many_modes_as_asked_for_with_the_power_that_was_there(number: int) -> None:
    """Fewer are the strongest; more are added."""
    probe = make_probe('airy', N, photons=1e4, modes=3).astype(np.complex64)
    found = set_number(probe, number)
    assert found.shape == (number, N, N) and found.dtype == np.complex64
    np.testing.assert_allclose((np.abs(found) ** 2).sum(), 1e4, rtol=1e-4)
    if number < 3:
        alike = np.abs(np.vdot(found[0], probe[0])) / np.linalg.norm(found[0]) / np.linalg.norm(probe[0])
        assert alike == pytest.approx(1, abs=1e-4)


def test_when_the_patterns_are_asked() -> None:
    """When there is an object to judge with and passes are left; not while the residual falls fast."""
    level = [0.1] * 60
    for passes, expected in {1: [], 4: [], 8: [3, 4, 5]}.items():
        asked = [n for n in range(1, passes + 1) if asks_after(level[:n], passes, refined=False)]
        assert asked == expected
    assert not asks_after(level[:14], 60, refined=False) and asks_after(level[:15], 60, refined=False)
    assert asks_after(level[:3], 60, refined=True)
    assert not asks_after([0.2, 0.1, 0.06], 12, refined=False) and asks_after([0.2, 0.1, 0.07], 12, refined=False)


def test_the_brightest_part_of_an_object_is_that_in_full_light() -> None:
    """A clear part tells 1 whatever the rest is; pixels in the dark tell nothing."""
    canvas = np.full((60, 60), 0.5, np.complex64)
    light = np.ones((60, 60), np.float32)
    canvas[10:25, 10:25] = 1j * 1.2
    light[40:] = 0.01
    canvas[40:] = 30
    assert brightest_amplitude(canvas[:35], light[:35]) == pytest.approx(1.2, rel=1e-5)
    assert brightest_amplitude(canvas, light) < 30


def simulated(object: str, probe: str, photons: float, modes: int = 1, step: float = 7.0) -> Scan:
    return simulate(n=64, positions=144, step=step, photons=photons, object=object, probe=probe, modes=modes, seed=4)


def reconstructed(scan: Scan, modes: int | None, passes: int = 8) -> tuple[Refined, Comparison]:
    prepared = prepare_scan(replace(scan, object=None))
    overlap = scan_overlap(prepared.positions, prepared.probe)
    options = RefineOptions.for_scan(passes, dose=scan_dose(prepared), overlap=overlap, modes=modes)
    found = refine(prepared, np.ones(prepared.layout.shape, np.complex64), options)
    assert scan.object is not None
    figures = compare(found.canvas, prepared.layout.origin, scan.object, scan.object_origin, scan.positions, margin=4)
    return found, figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ('object', 'probe', 'photons', 'modes'),
    [
        ('cells', 'defocused', 1e5, 1),
        ('islands', 'zone_plate', 1e4, 1),
        ('cells', 'flat_top', 1e3, 1),
        ('lines', 'defocused', 1e5, 3),
    ],
)
def test_a_probe_that_is_right_is_left_alone(object: str, probe: str, photons: float, modes: int) -> None:
    """One mode stays one, and three stay three, to the last bit, whatever the object, the probe and the dose."""
    scan = simulated(object, probe, photons, modes)
    found, held = (reconstructed(scan, number)[0] for number in (None, 0))
    assert not found.probe_asked_for and len(found.probe) == modes
    np.testing.assert_array_equal(found.canvas, held.canvas)


@pytest.mark.slow
def test_a_probe_of_one_mode_grows_those_that_are_missing() -> None:
    """Of a probe of three modes the first alone is given, with its own power: the object, its amplitude with it."""
    whole = simulated('cells', 'defocused', 1e5, modes=3)
    assert whole.probe is not None
    scan = replace(whole, probe=whole.probe[:1])
    held = reconstructed(scan, 0, 12)[1]
    found, figures = reconstructed(scan, None, 12)
    assert found.probe_asked_for and len(found.probe) > 1
    assert figures.phase_psnr > held.phase_psnr + 4 and figures.amplitude_psnr > held.amplitude_psnr + 4
    power = (np.abs(found.probe) ** 2).sum(axis=(1, 2))
    assert (np.diff(power) < 0).all()
    np.testing.assert_allclose(gram(found.probe) - np.diag(power), 0, atol=1e-3 * power[0])
    assert figures.amplitude_ratio == pytest.approx(1, abs=0.12)
    known, ours = (np.linalg.qr(probe.reshape(len(probe), -1).T)[0] for probe in (whole.probe, found.probe))
    assert np.linalg.svd(known[:, :2].conj().T @ ours)[1].min() > 0.9
