"""Values as PNG: their colors, what is not known, smaller ones of large ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ptychopinn_reconstructor.display.png import BEYOND, GRAYS, VIRIDIS, draw_values, phase_about_mean, shrink


def decode(data: bytes) -> np.ndarray:
    """Pixels (H, W, 3) of a PNG."""
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def test_values_run_from_the_first_color_to_the_last() -> None:
    values = np.linspace(-1, 3, 256).reshape(1, 256) * np.ones((3, 1))
    pixels = decode(draw_values(values, GRAYS)).astype(int)
    assert (np.diff(pixels[1, :, 0]) >= 0).all() and (pixels[..., 0] == pixels[..., 2]).all()
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[0, -1].tolist() == [255, 255, 255]
    assert abs(pixels[0, 128, 0] - 128) <= 2
    colored = decode(draw_values(values, VIRIDIS))
    assert (colored[0, 0] == VIRIDIS[0]).all() and (colored[0, -1] == VIRIDIS[-1]).all()


def test_what_is_not_known_is_dark() -> None:
    values = np.array([[0.0, np.nan, 1.0, 5.0]])
    pixels = decode(draw_values(values, GRAYS, np.array([[True, True, True, False]])))
    assert [tuple(pixel) == BEYOND for pixel in pixels[0]] == [False, True, False, True]
    assert pixels[0, 2, 0] > 250, 'the limits are those of what is known'


def test_a_phase_is_told_about_its_mean() -> None:
    turned = np.exp(1j * (3.0 + np.array([[-0.2, 0.2], [0.1, -0.1]]))).astype(np.complex64)
    np.testing.assert_allclose(phase_about_mean(turned), [[-0.2, 0.2], [0.1, -0.1]], atol=1e-5)


@pytest.mark.parametrize(
    ('shape', 'side', 'expected'), [((6, 8), 8, (6, 8)), ((6, 9), 4, (2, 3)), ((1, 1000), 100, (1, 100))]
)
def test_shrinking_averages_squares(shape: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    small = shrink(values, side)
    assert small.shape == expected and max(small.shape) <= side
    step = -(-max(shape) // side)
    assert small[0, 0] == pytest.approx(values[:step, :step].mean())
    assert small[-1, -1] == pytest.approx(values[: step * expected[0], : step * expected[1]][-step:, -step:].mean())
