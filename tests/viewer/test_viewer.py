"""What a visitor of the viewer sees, read from the models of Bokeh, and what their clicks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans import small_scan

from ptychopinn_reconstructor.io import write_product
from ptychopinn_reconstructor.result import Reconstruction
from ptychopinn_reconstructor.viewer.series import Series

pytest.importorskip('bokeh', reason='bokeh, of the extra viewer, is not installed')
SCAN = small_scan()


def write(folder: Path, factor: complex = 1.0, crop: int = 0) -> Path:
    """The truth with some rows of noise, times a factor; without its last positions."""
    assert SCAN.object is not None and SCAN.probe is not None
    positions = SCAN.positions[: len(SCAN.positions) - crop]
    values = (SCAN.object * factor).astype(np.complex64)
    folder.mkdir(exist_ok=True)
    write_product(folder / 'product.h5', Reconstruction(values, (0.0, 0.0), SCAN.probe, positions, (2e-8, 1e-8)))
    return folder


@pytest.fixture
def viewer(tmp_path: Path) -> Any:
    from ptychopinn_reconstructor.viewer.document import Viewer

    spotted = write(tmp_path / 'b', 1.0)
    return Viewer({'a': Series(write(tmp_path / 'a')), 'b': Series(spotted)})


def images(viewer: Any) -> list[np.ndarray]:
    """What each picture shows, row 0 first."""
    return [one.renderers[0].data_source.data['image'][0] for one in viewer.pictures.figures]


def test_pictures_share_their_axes_and_colors(viewer: Any) -> None:
    first, second, difference = viewer.pictures.figures
    assert first.x_range is second.x_range is difference.x_range and first.y_range is difference.y_range
    assert first.y_range.start > first.y_range.end == 0, 'row 0 is on top'
    mappers = [one.renderers[0].glyph.color_mapper for one in viewer.pictures.figures]
    assert mappers[0] is mappers[1] is not mappers[2] and mappers[2].low == -mappers[2].high
    height, width = images(viewer)[0].shape
    assert (first.y_range.start, first.x_range.end) == pytest.approx((height * 20, width * 10)), 'nanometers'
    assert first.frame_height / first.frame_width == pytest.approx(2 * height / width, rel=0.02)


def test_the_quantity_is_chosen(viewer: Any) -> None:
    phase = images(viewer)[0]
    assert phase.min() < 0 and viewer.pictures.figures[0].right[0].title == 'phase (rad)'
    viewer.quantity.active = 0
    amplitude = images(viewer)[0]
    assert amplitude.min() > 0 and amplitude.shape == phase.shape
    assert viewer.lines.figure.yaxis[0].axis_label == 'amplitude'
    np.testing.assert_allclose(amplitude, viewer.placed['a'].amplitude, rtol=1e-6)


def test_a_click_moves_the_nearer_end_of_the_line(viewer: Any) -> None:
    height, width = viewer.placed['a'].object.shape
    viewer.pictures._move_end(20 * 10.5, 10 * 3.5)  # nanometers: the middle of row 10, column 3
    (row, column), far = viewer.pictures.ends
    assert (row, column) == pytest.approx((10, 3)) and far[1] == pytest.approx(0.9 * width)
    drawn = viewer.lines.sources['a'].data
    assert drawn['y'][0] == pytest.approx(float(viewer.placed['a'].phase[10, 3]), abs=1e-5)
    assert drawn['x'][-1] == pytest.approx(np.hypot((far[0] - 10) * 20, (far[1] - 3) * 10))
    viewer.pictures._move_end(20 * (height - 0.5), 10 * (width - 0.5))
    assert viewer.pictures.ends[1] == pytest.approx((height - 1, width - 1))


def test_a_correlation_is_told_with_its_resolution(viewer: Any) -> None:
    title = viewer.correlation.figure.title.text
    assert title.startswith('Fourier ring correlation of a, b\n0.5: 2.00 px = 40 nm or better, 1/7:')
    viewer.second.value = 'a'
    assert viewer.pictures.figures[2].title.text == 'a − a' and np.abs(images(viewer)[2]).max() < 1e-5


def test_steps_of_a_result_are_gone_through(viewer: Any, tmp_path: Path) -> None:
    viewer.quantity.active = 0
    before = images(viewer)[1].copy()
    assert not viewer.step.visible
    viewer.look()
    assert not viewer.step.visible, 'nothing has changed'
    spot = np.ones(SCAN.object.shape)  # type: ignore[union-attr]
    spot[30:40, 30:40] = 0.5
    write(tmp_path / 'b', spot)  # type: ignore[arg-type]
    viewer.look()
    assert viewer.step.visible and viewer.step.value == viewer.step.end == 2
    assert np.abs(images(viewer)[1] - before).max() > 0.2
    viewer.step.value = 1
    np.testing.assert_array_equal(images(viewer)[1], before)
    write(tmp_path / 'b')
    viewer.look()
    assert viewer.step.value == 1 and viewer.step.end == 3, 'who looks at an earlier step goes on to'


def test_a_step_that_lies_elsewhere_is_told_and_the_last_one_stays(viewer: Any, tmp_path: Path) -> None:
    before = images(viewer)[1].copy()
    small = Reconstruction(SCAN.object[:40, :40], (0.0, 0.0), SCAN.probe, SCAN.positions, (2e-8, 1e-8))  # type: ignore[index,arg-type]
    write_product(tmp_path / 'b' / 'product.h5', small)
    viewer.look()
    assert viewer.status.visible and viewer.status.text.startswith('b: The scan covers')
    np.testing.assert_array_equal(images(viewer)[1], before)


def test_an_object_that_grows_is_shown_whole(viewer: Any, tmp_path: Path) -> None:
    """As that of a live run, of which the first result is."""
    write(tmp_path / 'a', crop=30)
    viewer.look()
    small = viewer.pictures.shape
    write(tmp_path / 'a')
    viewer.look()
    assert small[0] < viewer.pictures.shape[0] == images(viewer)[0].shape[0]
    assert viewer.pictures.ranges['y_range'].start == pytest.approx(viewer.pictures.shape[0] * 20)


def test_of_a_large_object_what_is_in_view_is_sent(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptychopinn_reconstructor.viewer import pictures as module

    monkeypatch.setattr(module, 'MOST_PIXELS', 10)
    pictures = viewer.pictures
    pictures._send()
    whole = pictures.figures[0].renderers[0].data_source.data
    assert max(whole['image'][0].shape) <= 10 and (whole['x'], whole['y']) == ([0], [0])
    pictures.ranges['x_range'].update(start=10 * 5, end=10 * 12)
    pictures.ranges['y_range'].update(start=20 * 20, end=20 * 14)
    pictures._send()
    part = pictures.figures[0].renderers[0].data_source.data
    np.testing.assert_allclose(part['image'][0], pictures.values['a'][14:20, 5:12], rtol=1e-6)
    assert (part['x'], part['y'], part['dw'], part['dh']) == ([50], [280], [70], [120])
