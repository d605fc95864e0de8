"""What the figures of reliability, correlation and losses show, read from their axes."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.image import imread

from ptychopinn_reconstructor.display.png import compute_limits
from ptychopinn_reconstructor.io import curves, drawing, maps

LIT = np.zeros((40, 60), bool)
LIT[10:30, 20:50] = True
PLACES = np.array([[12.0, 22.0], [12.0, 42.0], [28.0, 22.0], [28.0, 42.0]])
RESIDUALS = np.array([1.0, 2.0, 3.0, 4.0])
CURVE = {'frequency': [0.1, 0.3, 0.5], 'correlation': [1.0, 0.6, 0.1], 'half_bit': [0.9, 0.5, 0.4]}


def find_dots(axis: Axes) -> Any:
    """The points of an axis, which are drawn last."""
    return axis.collections[-1]


def title_and_label(axis: Axes) -> tuple[str, str]:
    """The title of an image, and the label of the color bar beside it."""
    figure = axis.figure
    return axis.get_title(), figure.axes[1].get_ylabel() if len(figure.axes) > 1 else ''


def test_a_residual_is_drawn_at_its_place() -> None:
    axis = maps.draw_residual_map(RESIDUALS, PLACES, LIT).axes[0]
    image, dots = axis.images[0], find_dots(axis)
    shown: Any = image.get_array()
    assert np.array_equal(shown, LIT) and not dots.get_clip_on(), 'those at the border are whole'
    np.testing.assert_array_equal(dots.get_offsets(), PLACES[:, ::-1])
    np.testing.assert_array_equal(dots.get_array(), RESIDUALS)
    np.testing.assert_allclose(dots.get_clim(), (1.0, np.percentile(RESIDUALS, 99.5)))
    assert title_and_label(axis) == ('misfit at the scan positions', 'residual of the pattern')
    apart = math.sqrt(16 * 20 / 4)  # pixels between neighbors
    diameter = 72 * drawing.FIGURE_SIDE / LIT.shape[1] * apart
    assert dots.get_sizes() == pytest.approx([min(diameter, 24.0) ** 2])


@pytest.mark.parametrize(('places', 'diameter'), [(PLACES[:1], 2.0), (PLACES * 100, 24.0)])
def test_dots_are_never_lost_nor_larger_than_the_picture(places: Any, diameter: float) -> None:
    """One place has no neighbors; the others are far apart, or nearly on top of each other."""
    wide = np.ones((400, 4000), bool)
    dots = find_dots(maps.draw_residual_map(RESIDUALS[: len(places)], places, wide).axes[0])
    assert dots.get_sizes() == pytest.approx([diameter**2])


def test_an_uncertainty_is_drawn_where_light_has_fallen() -> None:
    deviation = np.full(LIT.shape, 9.0)
    deviation[10:30, 20:50] = np.linspace(0, 1, 600).reshape(20, 30)
    deviation[11, 21] = np.nan
    axis = maps.draw_uncertainty_map(deviation, LIT, label='phase (rad)').axes[0]
    shown: Any = axis.images[0].get_array()
    assert np.ma.getmaskarray(shown).sum() == LIT.size - 600 + 1
    low, high = axis.images[0].get_clim()
    assert low == 0.0 and high == pytest.approx(0.995, abs=1e-3), 'the dark part sets no limit'
    assert title_and_label(axis) == ('uncertainty where the object is lit', 'phase (rad)')


def test_coverage_shows_every_place_and_the_outline_of_the_light() -> None:
    axis = maps.draw_coverage_map(LIT, PLACES).axes[0]
    outline, dots = axis.collections[0], find_dots(axis)
    shown: Any = axis.images[0].get_array()
    assert (np.ma.getmaskarray(shown) == ~LIT).all()
    np.testing.assert_array_equal(dots.get_offsets(), PLACES[:, ::-1])
    (path,) = outline.get_paths()
    np.testing.assert_allclose(path.get_extents().get_points(), [[19.5, 9.5], [49.5, 29.5]], atol=0.01)
    assert title_and_label(axis)[0].startswith('where light has fallen') and len(axis.figure.axes) == 1
    assert 0.5**2 <= dots.get_sizes()[0] <= 4**2


def test_an_outline_closes_at_the_border_of_the_picture() -> None:
    axis = maps.draw_coverage_map(np.ones((8, 8), bool), PLACES / 10).axes[0]
    points = axis.collections[0].get_paths()[0].get_extents().get_points()
    np.testing.assert_allclose(points, [[-0.5, -0.5], [7.5, 7.5]], atol=0.01)


def test_correlations_are_drawn_with_their_three_thresholds() -> None:
    figure = curves.draw_frc_figure({'mine': CURVE, 'other': {**CURVE, 'correlation': [1, 1, 1]}}, title='halves')
    (axis,) = figure.axes
    lines = {str(line.get_label()): line for line in axis.lines}
    assert [*lines] == ['mine', 'other', 'half-bit', '0.5', '1/7']
    np.testing.assert_array_equal(lines['mine'].get_xydata(), np.stack([CURVE['frequency'], CURVE['correlation']], 1))
    np.testing.assert_array_equal(lines['half-bit'].get_ydata(), CURVE['half_bit'])
    assert [*np.ravel(lines['0.5'].get_ydata())] == [0.5] * 2 and [*np.ravel(lines['1/7'].get_ydata())] == [1 / 7] * 2
    assert axis.get_xlim() == (0, 0.5) and axis.get_legend() is not None
    assert figure.get_suptitle() == 'halves' and curves.draw_frc_figure({'mine': CURVE}).get_suptitle() == ''


@pytest.mark.parametrize(('lowest', 'scale'), [(1e-3, 'log'), (0.0, 'linear'), (-2.0, 'linear')])
def test_losses_are_logarithmic_where_all_are_positive(
    lowest: float, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        drawn.append(figure)
        return path

    monkeypatch.setattr(curves, 'save_figure', keep)
    trainings: dict[str, Any] = {'a': [(1, 0.5, 0.6), (2, 0.4, lowest)], 'b': [(1, 0.3, None), (2, 0.2, None)]}
    assert curves.write_losses(tmp_path / 'losses.png', trainings) == tmp_path / 'losses.png'
    (axis,) = drawn[0].axes
    lines = {str(line.get_label()): line for line in axis.lines}
    assert [*lines] == ['a, training', 'a, validation', 'b, training'], 'nothing was held out of b'
    np.testing.assert_array_equal(lines['a, validation'].get_xydata(), [(1, 0.6), (2, lowest)])
    assert lines['a, training'].get_linestyle() == '-' and lines['a, validation'].get_linestyle() == '--'
    assert lines['a, training'].get_color() == lines['a, validation'].get_color() != lines['b, training'].get_color()
    assert axis.get_yscale() == scale and (axis.get_xlabel(), axis.get_ylabel()) == ('epoch', 'loss')


def test_losses_become_a_picture(tmp_path: Path) -> None:
    path = curves.write_losses(tmp_path / 'losses.png', {'a': [(1, 0.5, 0.6), (2, 0.4, 0.5)]})
    assert imread(path).shape[:2] == (640, 1024)


@pytest.mark.parametrize(
    ('values', 'limits'),
    [
        (np.array([1.0, np.nan, np.inf, 1.0]), (0.95, 1.05)),
        (np.array([np.nan]), (0.0, 1.0)),
        (np.linspace(0, 1000, 1001), (5.0, 995.0)),
        (np.array([2000.0, 2001.0]), (1999.955, 2001.045)),
    ],
)
def test_limits_leave_out_extremes_and_are_wide_enough(values: Any, limits: tuple[float, float]) -> None:
    assert compute_limits(values) == pytest.approx(limits)


def test_an_upper_limit_is_never_zero() -> None:
    assert drawing.compute_upper_limit(np.array([np.nan])) == 1.0 == drawing.compute_upper_limit(np.zeros(4))
    assert drawing.compute_upper_limit(np.array([np.inf, 2.0])) == 2.0


def test_differences_share_symmetric_limits() -> None:
    scale = drawing.scale_difference('b - a', [np.array([0.1, -0.2]), np.array([-3.0, -3.0])])
    assert (scale.label, scale.limits) == ('b - a', (-3.0, 3.0))


@pytest.mark.parametrize(('low', 'high', 'cyclic'), [(0.0, 0.79 * 2 * math.pi, False), (0.0, 0.83 * 2 * math.pi, True)])
def test_a_phase_that_fills_the_circle_has_a_cyclic_scale(low: float, high: float, cyclic: bool) -> None:
    scale = drawing.scale_phase(np.repeat([low, high], 500))
    assert scale.cyclic == cyclic and scale.limits == ((-math.pi, math.pi) if cyclic else pytest.approx((low, high)))
    figure, axis = drawing.make_image_figure((4, 4), None)
    drawing.add_color_bar(figure, drawing.draw_image(axis, np.zeros((4, 4)), scale, None), [axis], scale)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert (labels == ['−π', '−π/2', '0', 'π/2', 'π']) == cyclic


@pytest.mark.parametrize(
    ('shape', 'pixel', 'extent'),
    [
        ((10, 20), None, (2.0, 4.0)),
        ((10, 20), (4e-9, 1e-9), (4.0, 2.0)),
        ((1, 100), None, (4 / 3, 4.0)),
        ((100, 1), None, (4.0, 4 / 3)),
    ],
)
def test_a_picture_keeps_its_proportions_but_is_never_a_line(shape: Any, pixel: Any, extent: Any) -> None:
    assert drawing.compute_extent(shape, pixel, 4.0) == pytest.approx(extent)


def test_a_picture_has_room_for_what_stands_beside_it() -> None:
    bare, _ = drawing.make_image_figure((10, 10), None)
    full, axis = drawing.make_image_figure((10, 10), None, title='object')
    assert axis.get_title() == 'object'
    np.testing.assert_allclose(full.get_size_inches() - bare.get_size_inches(), (0, 0.3))
    np.testing.assert_allclose(bare.get_size_inches()[0], 4.6 + 0.05 + 0.85 + 0.05)


def test_pixels_that_are_no_squares_are_drawn_in_their_proportion() -> None:
    _, axis = drawing.make_image_figure((4, 4), (3e-9, 2e-9))
    drawing.draw_image(axis, np.zeros((4, 4)), drawing.scale_amplitude(np.zeros((4, 4))), (3e-9, 2e-9))
    assert axis.get_aspect() == 1.5 and not axis.axison


def test_rows_of_fewer_images_are_aligned_to_the_right() -> None:
    scale = drawing.ColorScale('amplitude', 'gray', (0.0, 1.0))
    panels = [np.full((2, 2), value) for value in (0.1, 0.2, 0.3)]
    figure = drawing.make_figure(4, 4)
    grid = drawing.draw_rows(figure, [drawing.Row(scale, panels, 'abc'), drawing.Row(scale, panels[:1])])
    assert grid.shape == (2, 3) and [axis.get_title() for axis in grid[0]] == ['a', 'b', 'c']
    assert [len(axis.images) for axis in grid[1]] == [0, 0, 1] and not any(axis.axison for axis in grid[1])


def test_a_scale_bar_is_as_long_as_it_says_and_lies_inside() -> None:
    _, axis = drawing.make_image_figure((100, 200), None)
    drawing.add_scale_bar(axis, (100, 200), (1e-9, 2e-9))
    (bar,), (text,) = axis.patches, axis.texts
    box: Any = bar
    assert text.get_text() == '100 nm' and box.get_width() == pytest.approx(50.0)
    assert (box.get_x(), box.get_y() + box.get_height()) == (pytest.approx(8.0), pytest.approx(95.0))
    x, y = text.get_position()
    assert x == pytest.approx(8.0 + 25.0) and y < box.get_y(), 'centered above the bar'


@pytest.mark.parametrize(('kind', 'head'), [('png', b'\x89PNG'), ('svg', b'<?xml')])
def test_equal_figures_have_equal_bytes(kind: str, head: bytes) -> None:
    first, second = (drawing.encode_figure(curves.draw_frc_figure({'a': CURVE}), kind) for _ in range(2))
    assert (
        first.startswith(head)
        and b'Software' not in first
        and b'<dc:date>' not in first
        and b'Matplotlib v' not in first
    )
    assert kind == 'svg' or first == second
    if kind == 'png':
        assert imread(io.BytesIO(first)).shape[0] < 3.6 * drawing.DPI + 20


def test_what_is_missing_is_gray() -> None:
    colors = drawing.get_color_map(drawing.ColorScale('', 'viridis', (0.0, 1.0)))
    assert to_hex(colors(np.nan)) == drawing.MISSING_COLOR
