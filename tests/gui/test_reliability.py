"""The pictures of reliability in the window: after Infer, by a button of the panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PyQt5.QtWidgets import QDialog, QLabel, QPushButton, QWidget
from test_jobs import short, wait
from window import QTest, Window

from ptychopinn_reconstructor.host.last_reliability import LastReliability
from ptychopinn_reconstructor.host.window.reliability import ReliabilityDialog, ReliabilityViewController

pytestmark = pytest.mark.slow
MAPS = ('residual_map', 'uncertainty', 'coverage')


def button_of(window: Window) -> QPushButton:
    button = window.panel.findChild(QPushButton, 'reliability')
    assert button is not None
    return button


def colors_in(widget: QWidget) -> int:
    """How many colors a widget shows."""
    image = widget.grab().toImage()
    return len({image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)})


@pytest.fixture
def opened(window: Window, tmp_path: Path) -> ReliabilityDialog:
    """Train for some seconds, infer with halves, press the button."""
    short(window, epochs=4)
    window.train(tmp_path)
    wait(window.is_idle)
    window.settings['split_frc'].set_value(True)
    window.infer()
    wait(window.is_idle)
    assert button_of(window).isEnabled()
    window.click(button_of(window))
    (dialog,) = (each for each in window.view.findChildren(QDialog, 'reliability-dialog') if each.isVisible())
    assert isinstance(dialog, ReliabilityDialog)
    QTest.qWait(500)
    return dialog


def test_the_pictures_of_the_last_reconstruction(window: Window, opened: ReliabilityDialog, tmp_path: Path) -> None:
    """Each with what it tells, under the line that stands in the product's comments; they can be saved."""
    window.picture('reliability', opened)
    window.picture('reliability-button')
    comments = window.product(window.products.currentIndex()).get_product().metadata.comments
    said = opened.line.text().rstrip('.')
    assert said[1:] in comments and said.startswith('Residual ') and 'half-data FRC' in said
    assert window.products.currentText() in opened.windowTitle()
    assert 'Fits to ' in opened.verdict.text() and 'Fits to ' in comments
    for name in (*MAPS, 'split_frc'):
        (canvas,) = opened.findChildren(QWidget, name)
        assert canvas.width() >= 340 and colors_in(canvas) > 20, name
        (words,) = opened.findChildren(QLabel, f'{name}-words')
        assert len(words.text().split()) > 5
    folder = tmp_path / 'pictures'
    window.answer = folder
    window.click(opened.save_button)
    assert {path.name for path in folder.iterdir()} == {f'{name}.png' for name in (*MAPS, 'split_frc')}
    assert all(len(np.unique(imread(path)[..., :3])) > 20 for path in folder.iterdir())
    opened.close()


def test_both_panels_show_the_same_and_one_window_at_a_time(window: Window, opened: ReliabilityDialog) -> None:
    """The next reconstruction, without halves, replaces the pictures; the button of the other panel opens them too."""
    window.settings['split_frc'].set_value(False)
    window.infer()
    wait(window.is_idle)
    window.click(button_of(window))
    assert not opened.isVisible()
    window.select('supervised')
    window.click(button_of(window))
    shown = [each for each in window.view.findChildren(QDialog, 'reliability-dialog') if each.isVisible()]
    assert shown and all(each.findChild(QWidget, 'split_frc') is None for each in shown)
    for each in shown:
        each.close()


def test_there_is_nothing_to_show_before_a_reconstruction(window: Window) -> None:
    button = ReliabilityViewController(LastReliability(), None).get_widget()
    assert not button.isEnabled() and button.toolTip() == 'Infer first.'
