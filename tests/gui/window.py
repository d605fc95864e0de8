"""The real window of Ptychodus on a small scan, and hands to use it with; what its dialogs would say is kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ptychodus.controller import ControllerCore
from ptychodus.model import ModelCore
from ptychodus.view import ViewCore
from ptychodus.view.widgets import DecimalLineEdit, ExceptionDialog
from PyQt5 import QtTest
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QToolButton,
    QWidget,
)

from ptychopinn_reconstructor.host.fields import GROUPS
from ptychopinn_reconstructor.host.hook import LIBRARY
from ptychopinn_reconstructor.host.library import PtychoPINNLibrary

QTest: Any = QtTest.QTest  # its stubs take its functions for methods
HANG = 300_000  # milliseconds after which a test gives up
SIZE = (1400, 1000)
KEYS = {'pinn': 'ptychopinn_pinn', 'supervised': 'ptychopinn_supervised'}


class Window:
    """Ptychodus's window; `errors` are (who, what) of the error dialogs, `answer` is what a file dialog returns."""

    def __init__(self, model: ModelCore, patch: pytest.MonkeyPatch) -> None:
        self.model = model
        self.view = ViewCore()
        self.controller = ControllerCore(model, self.view)
        self.errors: list[tuple[str, str]] = []
        self.answer: Path | None = None
        self.api: Any = model.processing_core.processing_api
        self.library: PtychoPINNLibrary = getattr(self.api, LIBRARY)
        self.settings = self.library.settings
        self._processing = self.controller._processing_controller
        self._no_dialogs(patch)
        self.controller.show_main_window('Ptychodus')
        self.view.resize(*SIZE)
        self.view.processing_action.trigger()

    def _no_dialogs(self, patch: pytest.MonkeyPatch) -> None:
        def keep(who: str, error: Exception) -> None:
            self.errors.append((who, str(error)))

        patch.setattr(ExceptionDialog, 'show_exception', keep)
        dialogs = self.controller._file_dialog_factory
        for name in ('get_open_file_path', 'get_save_file_path'):
            patch.setattr(dialogs, name, lambda *args, **kwargs: (self.answer, ''))
        patch.setattr(dialogs, 'get_existing_directory_path', lambda *args, **kwargs: self.answer)

    # What there is

    @property
    def algorithm(self) -> QComboBox:
        """The combo box of the algorithms."""
        return self._processing._algorithm_view_controller.get_widget()

    @property
    def products(self) -> QComboBox:
        """The combo box of the products."""
        return self._processing._product_view_controller.get_widget()

    @property
    def actions(self) -> Any:
        """The buttons Infer and Train."""
        return self._processing._actions_view

    @property
    def progress(self) -> Any:
        """Loss curve, log, progress bar and Stop."""
        return self.view.processing_status_view

    @property
    def panel(self) -> QWidget:
        """The panel that is shown."""
        panel = self._processing._stacked_widget.currentWidget()
        assert panel is not None
        return panel

    def widget(self, name: str) -> QWidget:
        """The widget of a setting in the panel that is shown."""
        found: QWidget | None = self.panel.findChild(QWidget, name)
        assert found is not None, f'{name} has no widget'
        if not found.isVisible():
            self.open_groups()
        return found

    def status(self) -> str:
        """What the panel says of the model."""
        label = self.widget('status')
        assert isinstance(label, QLabel)
        return label.text()

    def log(self) -> str:
        """The text of the Processing log panel."""
        return str(self.progress.text_edit.toPlainText())

    def product(self, index: int) -> Any:
        """A product of the host."""
        return self.model.product_core.product_api.get_item(index)

    def curve(self) -> list[float]:
        """The losses as they are drawn."""
        lines = self.progress.axes.get_lines()
        return [float(value) for value in lines[0].get_ydata()] if lines else []

    def is_idle(self) -> bool:
        """Whether nothing runs, nothing waits and all that was found is shown."""
        tasks = self.model._task_manager
        monitor = self.api.task_monitor
        queued = tasks.background_queue_size + tasks.foreground_queue_size
        session = self.library.session
        return not (monitor.is_processing or session.is_training or session.is_finishing or queued)

    def object_of(self, index: int) -> Any:
        """The object of a product, (H, W)."""
        return self.product(index).get_product().object_.get_array()[0]

    # What a user does

    def select(self, model_type: str) -> None:
        """Choose one of our algorithms with the keyboard."""
        press_to(self.algorithm, KEYS[model_type])

    def open_groups(self, *, is_open: bool = True) -> None:
        """Open all closed groups, or close them."""
        for title in list(GROUPS)[1:]:
            button = self.panel.findChild(QToolButton, title)
            assert button is not None, title
            if button.isChecked() != is_open:
                QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def click(self, button: QPushButton) -> None:
        """A click with the mouse."""
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def train(self, folder: Path, *, product: int = 0) -> None:
        """Train on a product, `folder` chosen in the dialog."""
        self.products.setCurrentIndex(product)
        self.answer = folder
        self.click(self.actions.train_button)

    def infer(self, *, product: int = 0) -> None:
        """Infer on a product."""
        self.products.setCurrentIndex(product)
        self.click(self.actions.reconstruct_button)

    def load_model(self, path: Path) -> None:
        """Load Model in the menu."""
        self.answer = path
        action = self._processing._load_model_action
        assert action is not None
        action.trigger()

    def picture(self, name: str, widget: QWidget | None = None) -> None:
        """Write a picture of the window, or of a widget in it, where PTYCHOPINN_SCREENSHOTS says."""
        if folder := os.environ.get('PTYCHOPINN_SCREENSHOTS'):
            Path(folder).mkdir(parents=True, exist_ok=True)
            QApplication.processEvents()  # what is to be laid out anew is
            (widget or self.view).grab().save(str(Path(folder) / f'{name}.png'))


@contextmanager
def window_on(scan: Path, settings: Path | None = None) -> Iterator[Window]:
    """A window with a scan loaded: a folder that io.write_ptychodus_folder has written."""
    logging.getLogger().setLevel(logging.INFO)  # the host sets it with basicConfig, which does nothing under pytest
    with pytest.MonkeyPatch.context() as patch, ModelCore(settings, log_level=logging.INFO) as model:
        window = Window(model, patch)
        api = model.workflow_api
        api.load_product(scan / 'product.h5', diffraction=api.load_assembled_diffraction_data(scan / 'diffraction.h5'))
        try:
            yield window
        finally:
            window.controller._run_tasks_timer.stop()
            window.view.close()
            window.view.deleteLater()


def workers(of: int | None = None) -> list[int]:
    """The worker processes of a process, this one by default, that run a job; not those that list devices."""
    found = []
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            command = (entry / 'cmdline').read_bytes().split(b'\0')
            parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has just ended
            continue
        if parent == (of or os.getpid()) and command[3:5] == [b'ptychopinn_reconstructor.worker.main', b'torch']:
            found.append(int(entry.name))
    return found


# Widgets: what they show, and how a user changes it


def shown(widget: QWidget) -> str | bool:
    """What a widget shows."""
    if isinstance(widget, QCheckBox):
        return widget.isChecked()
    if isinstance(widget, QComboBox):
        return widget.currentText()
    text = line_of(widget).text()
    return str(float(text)) if isinstance(widget, DecimalLineEdit) else text


def line_of(widget: QWidget) -> QLineEdit:
    """The line in which a widget is typed into."""
    line = widget.findChild(QLineEdit)
    assert line is not None
    return line


def enter(widget: QWidget, value: Any) -> None:
    """Set a widget by mouse and keyboard."""
    if isinstance(widget, QCheckBox):
        if widget.isChecked() != value:
            QTest.keyClick(widget, Qt.Key.Key_Space)
    elif isinstance(widget, QComboBox) and not widget.isEditable():
        press_to(widget, str(value))
    else:
        line = line_of(widget)
        line.selectAll()
        QTest.keyClick(line, Qt.Key.Key_Delete)
        QTest.keyClicks(widget if isinstance(widget, QAbstractSpinBox) else line, str(value))
        QTest.keyClick(line, Qt.Key.Key_Return)


def press_to(box: QComboBox, text: str) -> None:
    """Walk to an entry of a combo box with the arrow keys."""
    wanted = max(box.findText(text), box.findData(text))
    assert wanted >= 0, f'{text!r} is not among {[box.itemText(i) for i in range(box.count())]}'
    key = Qt.Key.Key_Down if wanted > box.currentIndex() else Qt.Key.Key_Up
    for _ in range(abs(wanted - box.currentIndex())):
        QTest.keyClick(box, key)
