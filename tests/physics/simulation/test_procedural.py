"""Procedural patterns: reproducible, with the statistics of the instrument, and with labels that explain them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ptychopinn_reconstructor.physics.forward import diffract
from ptychopinn_reconstructor.physics.probes import make_probe
from ptychopinn_reconstructor.physics.scaling import InputScaler, crop_support
from ptychopinn_reconstructor.physics.simulation.procedural import POOL, STEPS_AN_OBJECT, ProceduralPatterns

N, PHOTONS = 32, 1e5


def narrow_probe() -> NDArray[np.complex64]:
    """A probe that is zero outside the support, so that a label explains its pattern completely."""
    probe = np.zeros((1, N, N), dtype=np.complex64)
    whole = make_probe('gaussian', N, photons=PHOTONS).astype(np.complex64)
    crop_support(probe, N // 2)[:] = crop_support(whole, N // 2)
    return probe


def test_a_step_does_not_depend_on_what_was_drawn_before() -> None:
    probe = narrow_probe()
    one, other = (ProceduralPatterns(probe, (0.5, 2.0), seed=3) for _ in range(2))
    for step in (0, 1, 40 * STEPS_AN_OBJECT):
        one.draw(step, 6)
    first, second = one.draw(500, 6), other.draw(500, 6)
    assert np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.labels, second.labels)
    assert first.dose == second.dose
    assert not np.array_equal(first.counts, ProceduralPatterns(probe, (0.5, 2.0), seed=4).draw(500, 6).counts)


def test_counts_are_those_of_the_label_within_counting_noise() -> None:
    """The label, in the probe's frame, put under the probe explains the counts at the dose of the step."""
    probe = narrow_probe()
    drawn = ProceduralPatterns(probe, (0.5, 2.0)).draw(7, 12)
    patches = np.ones((12, N, N), dtype=np.complex64)
    crop_support(patches, N // 2)[:] = drawn.labels
    expected = drawn.dose * diffract(probe, patches, np.zeros((12, 2)))
    bright = expected > 30
    chi = ((drawn.counts - expected)[bright] ** 2 / expected[bright]).mean()
    assert chi == pytest.approx(1.0, abs=0.1)
    wrong = diffract(probe, patches, np.full((12, 2), 0.5)) * drawn.dose
    assert ((drawn.counts - wrong)[bright] ** 2 / expected[bright]).mean() > 2


def test_doses_cover_their_range_evenly_in_their_logarithm() -> None:
    source = ProceduralPatterns(narrow_probe(), (0.1, 10.0))
    doses = np.log10([source.draw(step, 1).dose for step in range(150)])
    assert -1 <= doses.min() < -0.9
    assert 0.9 < doses.max() <= 1
    assert abs(doses.mean()) < 4 * 2 / np.sqrt(12 * 150)


def test_the_input_is_that_of_a_scan_of_this_dose() -> None:
    probe = narrow_probe()
    drawn = ProceduralPatterns(probe, (0.05, 0.1)).draw(3, 4)
    own = InputScaler((probe * np.sqrt(drawn.dose)).astype(np.complex64)).counts_to_input(drawn.counts)
    assert np.abs(own.root4 - drawn.input.root4).max() < 1e-6
    assert np.abs(own.backprojection - drawn.input.backprojection).max() < 1e-5


def test_bad_pixels_hold_no_counts_and_are_filled_for_the_network() -> None:
    bad = np.zeros((N, N), dtype=bool)
    bad[N // 2, N // 2 - 3 : N // 2 + 3] = True
    drawn = ProceduralPatterns(narrow_probe(), bad_pixels=bad).draw(0, 4)
    assert (drawn.counts[:, bad] == 0).all()
    assert (drawn.input.root4[:, bad] > 0).all()


def test_the_pool_holds_a_bounded_number_of_objects_and_moves_on() -> None:
    source = ProceduralPatterns(narrow_probe())
    for step in range(0, 30 * STEPS_AN_OBJECT, 7):
        source.draw(step, 4)
    assert len(source._pool) <= POOL
    assert min(source._pool) > 10
