"""Pictures of objects (specs/data_contracts.md, section 5)."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import imread

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.io import drawing, images, write_amplitude_phase, write_comparison


def _step_object(height: int = 60, width: int = 80) -> np.ndarray:
    amplitude = np.where(np.arange(width) < width // 2, 0.5, 1.0) * np.ones((height, 1))
    phase = np.where(np.arange(height)[:, None] < height // 2, -0.4, 0.8)
    return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def _gray_columns(path: Path) -> np.ndarray:
    """Mean gray value of four columns across the picture, left of its color bar."""
    pixels = imread(path)[..., :3].mean(axis=2)
    height, width = pixels.shape
    return np.array([pixels[height // 3 : height // 2, int(width * x)].mean() for x in (0.1, 0.3, 0.55, 0.75)])


def test_amplitude_and_phase_are_drawn_the_right_way_up(tmp_path: Path) -> None:
    """D50: dark where the amplitude is low (left), the phase changes from top to bottom."""
    amplitude, phase = write_amplitude_phase(tmp_path, _step_object(), title='steps')
    assert sorted(os.listdir(tmp_path)) == ['reconstructed_amplitude.png', 'reconstructed_phase.png']
    left, left_too, right, right_too = _gray_columns(amplitude)
    assert max(left, left_too) < 0.1 and min(right, right_too) > 0.9
    pixels = imread(phase)[..., :3]
    top, bottom = (pixels[int(pixels.shape[0] * y), pixels.shape[1] // 3] for y in (0.2, 0.7))
    assert top[2] > top[1] and bottom[1] > bottom[2], 'viridis: blue is low, yellow is high'


def test_area_sets_what_is_shown(tmp_path: Path) -> None:
    """D51: colors come from the illuminated area, so a wild border does not matter."""
    values = _step_object()
    border = np.full((100, 120), 50.0, np.complex64)
    border[20:80, 20:100] = values
    inside = write_amplitude_phase(tmp_path / 'a', values)
    cropped = write_amplitude_phase(tmp_path / 'b', border, area=(slice(20, 80), slice(20, 100)))
    for one, other in zip(inside, cropped, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize('value', [1.0 + 0j, 0.0j, 1e-9 + 0j, 1e6j])
def test_a_flat_object_is_drawn_without_warning(tmp_path: Path, value: complex) -> None:
    """D51."""
    for path in write_amplitude_phase(tmp_path, np.full((40, 40), value, np.complex64)):
        assert path.stat().st_size > 1000


@given(width=st.integers(4, 20_000), pixel=st.none() | st.floats(1e-10, 1e-6))
def test_scale_bar(width: int, pixel: float | None) -> None:
    """D52: 1, 2 or 5 times a power of ten; a tenth to a quarter of the width."""
    length, label = drawing.choose_scale_bar(width, pixel)
    number, unit = label.split()
    meters = float(number) * {'px': 1.0 if pixel is None else math.nan, 'nm': 1e-9, 'µm': 1e-6}[unit]
    assert math.isclose(length * (pixel or 1.0), meters, rel_tol=1e-5)
    assert 0.09 * width <= length <= 0.2501 * width
    assert f'{meters:e}'[0] in '125'


def test_scale_bar_of_a_known_case() -> None:
    """D52: 330 pixels of 18 nm are 5.94 µm wide; a quarter is 1.485 µm."""
    length, label = drawing.choose_scale_bar(330, 18e-9)
    assert label == '1 µm' and math.isclose(length, 1e-6 / 18e-9)
    assert drawing.choose_scale_bar(321, None) == (50.0, '50 px')


def test_phase_is_not_torn_near_pi() -> None:
    """D53: a phase that straddles ±π is shown in one piece about its mean."""
    phase = np.linspace(math.pi - 0.5, math.pi + 0.5, 50)
    shown = images._unwrap_about_mean(np.exp(1j * phase)[None].astype(np.complex64))
    np.testing.assert_allclose(np.diff(shown), np.diff(phase)[None], atol=1e-5)
    assert not drawing.scale_phase(shown).cyclic and drawing.scale_phase(np.linspace(-3.1, 3.1, 99)).cyclic


def test_comparison_shares_the_limits_of_the_first(tmp_path: Path) -> None:
    """D54: a result at half the amplitude looks darker; a constant phase makes no difference."""
    truth = _step_object()
    path = write_comparison(tmp_path / 'c.png', [('truth', truth), ('dark', (0.5j * truth).astype(np.complex64))])
    pixels = imread(path)[..., :3]
    height, width = pixels.shape[:2]
    row = pixels[height // 4].mean(axis=1)
    assert row[int(0.35 * width)] > 0.9 and row[int(0.80 * width)] < 0.1
    for y in (0.65, 0.9):
        line = pixels[int(y * height)]
        np.testing.assert_allclose(line[int(0.3 * width)], line[int(0.7 * width)], atol=0.02)


def test_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    """D2."""
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='Cannot write'):
        write_amplitude_phase(tmp_path / 'file', _step_object())


def test_no_pyplot_and_no_display(tmp_path: Path) -> None:
    """D55."""
    code = (
        'import sys, numpy as np; from ptychopinn_reconstructor.io import write_amplitude_phase as write\n'
        'write(sys.argv[1], np.ones((20, 20), np.complex64)); print("matplotlib.pyplot" in sys.modules)'
    )
    run = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'False'
