"""Error bars of a refined object: what they are made of, and that they hold the true error (RELIABILITY)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scans import small_scan

from ptychopinn_reconstructor.physics.engine.options import RefineOptions
from ptychopinn_reconstructor.physics.engine.refine import refine
from ptychopinn_reconstructor.physics.engine.residuals import residuals
from ptychopinn_reconstructor.physics.geometry import scan_area
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.scoring.error_bars import (
    LAW,
    LEAST_CHANGE,
    QUANTITIES,
    error_radius,
    local_quantities,
)
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.reconstruction.error_bars import estimate_error

Fields = tuple[NDArray[np.complex64], NDArray[np.float32], NDArray[np.complex64], NDArray[np.complex64]]


def fields(seed: int = 0, shape: tuple[int, int] = (40, 50)) -> Fields:
    """An object, the light on it, a step (not yet divided by the light) and a change."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(3, *shape)) + 1j * rng.normal(size=(3, *shape))
    light = rng.uniform(50, 100, shape).astype(np.float32)
    complexes = (1 + 0.1 * noise[0], 0.02 * noise[1] * light, 0.01 * noise[2])
    image, step, change = (values.astype(np.complex64) for values in complexes)
    return image, light, step, change


def test_the_quantities_are_local_rms_in_units_of_transmission() -> None:
    """A plane wave of steps and an even slope have the same rms everywhere, known by hand."""
    shape = (30, 30)
    rows, cols = np.indices(shape)
    image = (1 + 0.02 * rows + 0.03j * cols).astype(np.complex64)
    light = np.full(shape, 80, np.float32)
    wave = np.exp(1j * cols).astype(np.complex64)
    found = local_quantities(image, light, 8 * wave, 0.05 * wave, dose=80.0)
    inside = np.s_[10:-10, 10:-10]
    assert set(found) == set(QUANTITIES)
    np.testing.assert_allclose(found['step'][inside], 0.1, rtol=1e-5)
    np.testing.assert_allclose(found['change'][inside], 0.05, rtol=1e-5)
    np.testing.assert_allclose(found['detail'][inside], np.hypot(0.02, 0.03), rtol=1e-4)


def test_a_turn_of_all_phases_changes_nothing_and_the_dark_does_not_blow_up() -> None:
    image, light, step, change = fields()
    plain = local_quantities(image, light, step, change, 75.0)
    turn = np.complex64(np.exp(0.7j))
    turned = local_quantities(image * turn, light, step * turn, change * turn, 75.0)
    for name in QUANTITIES:
        np.testing.assert_allclose(turned[name], plain[name], rtol=1e-4)
    dark = local_quantities(image, light * 0, step, change, 75.0)
    assert np.isfinite(dark['step']).all() and dark['step'].max() < 20 * 75 * plain['step'].max()


def test_the_radius_by_hand_where_all_is_even() -> None:
    even = {'step': np.full((5, 6), 0.02), 'change': np.full((5, 6), 0.03), 'detail': np.full((5, 6), 0.1)}
    radius = error_radius(even, np.ones((5, 6), bool), passes=12, noise_ratio=1.5)  # type: ignore[arg-type]
    by_hand = np.exp(
        LAW.constant
        + LAW.passes * np.log(12)
        + LAW.misfit * np.log(1.5)
        + LAW.level['step'] * np.log(0.02)
        + LAW.level['change'] * np.log(0.03)
    )
    np.testing.assert_allclose(radius, by_hand, rtol=1e-5)
    assert radius.dtype == np.float32


def test_more_of_anything_makes_longer_bars() -> None:
    quantities = local_quantities(*fields(), dose=75.0)
    lit = np.zeros((40, 50), bool)
    lit[5:30, 6:40] = True
    plain = error_radius(quantities, lit, 12, 1.0)
    assert np.isnan(plain[~lit]).all() and np.isfinite(plain[lit]).all()
    for name in ('step', 'change'):
        more = error_radius({**quantities, name: 2 * quantities[name]}, lit, 12, 1.0)
        assert (more[lit] > 1.1 * plain[lit]).all()
    assert (error_radius(quantities, lit, 12, 2.0)[lit] > 1.1 * plain[lit]).all()
    assert np.array_equal(error_radius(quantities, lit, 12, 0.5), plain, equal_nan=True), 'noise that is followed'
    edge = quantities['detail'].copy()
    edge[10:14] *= 4
    longer = error_radius({**quantities, 'detail': edge}, lit, 12, 1.0)
    assert (longer[10:14, 6:40] > plain[10:14, 6:40]).all()


def test_an_object_that_does_not_change_is_not_taken_for_exact() -> None:
    """As where the last pass was taken back."""
    quantities = local_quantities(*fields(), dose=75.0)
    still = {**quantities, 'change': 0 * quantities['change']}
    lit = np.ones((40, 50), bool)
    ratio = error_radius(still, lit, 12, 1.0) / error_radius(quantities, lit, 12, 1.0)
    level = np.sqrt((quantities['change'] ** 2).mean() / (quantities['step'] ** 2).mean())
    np.testing.assert_allclose(ratio, (LEAST_CHANGE / level) ** LAW.level['change'], rtol=1e-4)
    assert np.isnan(error_radius(quantities, ~lit, 12, 1.0)).all()


@pytest.mark.parametrize('photons', [1e3, 1e5])
def test_the_bars_hold_the_true_error_of_a_refined_object(photons: float) -> None:
    """On scans that chose no coefficient, half the size of those that did; and they grow where the error is larger."""
    scan = small_scan(positions=144, photons=photons, object='leaves', seed=3)
    prepared = prepare_scan(scan)
    refined = refine(
        prepared, np.ones(prepared.layout.shape, np.complex64), RefineOptions.for_scan(12, dose=photons / 16)
    )
    ratio = residuals(prepared, refined.canvas, refined.probe).noise_ratio
    radius = estimate_error(prepared, refined, ratio)
    assert radius is not None and refined.change is not None and scan.object is not None
    area = scan_area(scan.positions, prepared.layout.origin)
    outside = np.ones(radius.shape, bool)
    outside[area] = False
    assert np.isfinite(radius[area]).all() and np.isnan(radius[outside]).all()
    found = compare(refined.canvas, prepared.layout.origin, scan.object, scan.object_origin, scan.positions)
    error = np.abs(found.result / found.amplitude_ratio - found.truth)
    bars = radius[area][4:-4, 4:-4]
    assert bars.shape == error.shape
    assert 0.6 < (error <= bars).mean() <= 1 and 0.4 < np.median(bars) / np.quantile(error, 0.9) < 2.5


def test_where_bars_were_not_calibrated_there_are_none() -> None:
    """In the near field, and where no pass was made."""
    prepared = prepare_scan(small_scan(positions=16))
    refined = refine(prepared, np.ones(prepared.layout.shape, np.complex64), RefineOptions(1))
    assert estimate_error(prepared, replace(refined, change=None), 1.0) is None
    near = replace(prepared, scan=replace(prepared.scan, fresnel_number=(0.01, 0.01)))
    assert estimate_error(near, refined, 1.0) is None
