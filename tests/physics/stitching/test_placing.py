"""An object of one canvas on another: whole pixels are copied, parts of a pixel interpolated."""

from __future__ import annotations

import numpy as np
import pytest

from ptychopinn_reconstructor.physics.stitching.placing import place_on_canvas


@pytest.mark.parametrize('shift', [(0, 0), (3, -2), (-5, 4), (40, 0)])
def test_whole_pixels_are_copied(shift: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    object = (rng.normal(size=(20, 24)) + 1j * rng.normal(size=(20, 24))).astype(np.complex64)
    canvas, inside = place_on_canvas(object, np.array(shift, dtype=float), (18, 30))
    for row, column in np.ndindex(18, 30):
        there = (row + shift[0], column + shift[1])
        known = 0 <= there[0] < 20 and 0 <= there[1] < 24
        assert inside[row, column] == known and canvas[row, column] == (object[there] if known else 1)


def test_parts_of_a_pixel_are_interpolated() -> None:
    y, x = np.indices((40, 40))
    canvas, inside = place_on_canvas(
        np.exp(1j * (0.2 * y + 0.1 * x)).astype(np.complex64), np.array([2.5, -1.25]), (40, 40)
    )
    expected = np.exp(1j * (0.2 * (y + 2.5) + 0.1 * (x - 1.25)))
    inner = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(canvas[inner], expected[inner], atol=1e-3)
    assert inside[inner].all()
