"""Widgets of settings: choices, devices, paths, and numbers with units."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import IntegerParameter, Parameter, PathParameter, RealParameter
from ptychodus.controller.parameters import ParameterViewController, SpinBoxParameterViewController
from PyQt5.QtCore import QSignalBlocker
from PyQt5.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QPushButton, QWidget

from ..devices import Devices
from ..fields import Field
from ..panel import format_open_value, format_unit
from ..settings import HOST_MODEL_PATH


class ChoiceViewController(ParameterViewController, Observer):
    """Combo box of allowed values; an unknown value of the settings is shown too."""

    def __init__(
        self,
        parameter: Parameter[str],
        choices: Sequence[str],
        strange: Callable[[str], str] = lambda value: 'unknown',
        titles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._parameter, self._known, self._strange = parameter, len(choices), strange
        self._box = QComboBox()
        for choice in choices:
            self._box.addItem(titles.get(choice, choice), choice)
        self._box.activated.connect(lambda index: parameter.set_value(self._box.itemData(index)))
        parameter.add_observer(self)
        self._show()

    def get_widget(self) -> QWidget:
        """The combo box."""
        return self._box

    def _show(self) -> None:
        value = self._parameter.get_value()
        while self._box.count() > self._known:
            self._box.removeItem(self._known)
        if self._box.findData(value) < 0:
            word = self._strange(value)
            self._box.addItem(f'{value} ({word})' if word else value, value)
        self._box.setCurrentIndex(self._box.findData(value))

    def _update(self, observable: Observable) -> None:
        self._show()


class DeviceViewController(ParameterViewController, Observer):
    """Editable combo box of the backend's devices."""

    def __init__(self, parameter: Parameter[str], backend: Parameter[str], devices: Devices) -> None:
        super().__init__()
        self._parameter, self._backend, self.devices = parameter, backend, devices
        self._box = QComboBox()
        self._box.setEditable(True)
        self._box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._box.activated.connect(self._set)
        line = self._box.lineEdit()
        assert line is not None
        line.editingFinished.connect(self._set)
        for observed in (parameter, backend, devices):
            observed.add_observer(self)
        self._show()

    def get_widget(self) -> QWidget:
        """The combo box."""
        return self._box

    def _set(self) -> None:
        self._parameter.set_value(self._box.currentText().strip() or self.devices.list_names()[0])

    def _show(self) -> None:
        with QSignalBlocker(self._box):
            self._box.clear()
            self._box.addItems(self.devices.list_names())
            value = self._parameter.get_value()
            self._box.setCurrentIndex(self._box.findText(value))  # where the arrow keys start from
            self._box.setEditText(value)

    def _update(self, observable: Observable) -> None:
        if observable is self._backend and self._box.isVisible():
            self.devices.query()
        self._show()


class PathViewController(ParameterViewController, Observer):
    """Line edit and dialog for a file or folder; no path is an empty line."""

    def __init__(self, parameter: Parameter[Any], field: Field, dialogs: Any) -> None:
        super().__init__()
        self._parameter, self._field, self._dialogs = parameter, field, dialogs
        self._line, button, self._widget = QLineEdit(), QPushButton('Browse'), QWidget()
        self._line.setPlaceholderText(field.empty)
        layout = QHBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(button)
        self._line.editingFinished.connect(lambda: self._set(self._line.text().strip()))
        button.clicked.connect(self._browse)
        parameter.add_observer(self)
        self._show()

    def get_widget(self) -> QWidget:
        """The line and its button."""
        return self._widget

    def _browse(self) -> None:
        name_filter = self._field.file_filter
        if name_filter:
            path, _ = self._dialogs.get_open_file_path(
                self._widget, self._field.caption, name_filters=[name_filter], selected_name_filter=name_filter
            )
        else:
            path = self._dialogs.get_existing_directory_path(self._widget, self._field.caption)
        if path:
            self._set(self._append(str(path)))

    def _append(self, chosen: str) -> str:
        return chosen

    def _set(self, text: str) -> None:
        self._parameter.set_value(Path(text) if isinstance(self._parameter, PathParameter) else text)

    def _show(self) -> None:
        text = str(self._parameter.get_value())
        self._line.setText('' if text in ('.', HOST_MODEL_PATH) else text)

    def _update(self, observable: Observable) -> None:
        self._show()


class PathsViewController(PathViewController):
    """Line edit for several files, separated as in a search path; the dialog appends one."""

    def _append(self, chosen: str) -> str:
        return os.pathsep.join([*filter(None, self._line.text().split(os.pathsep)), chosen])


class OptionalNumberViewController(ParameterViewController, Observer):
    """Line edit of a number that may be automatic, which is an empty line and the smallest value of the setting."""

    def __init__(self, parameter: RealParameter, field: Field) -> None:
        super().__init__()
        self._parameter, self._line, self._widget = parameter, QLineEdit(), QWidget()
        self._line.setPlaceholderText(format_open_value(field, parameter))
        layout = QHBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        self._line.editingFinished.connect(lambda: self._set(self._line.text().strip()))
        parameter.add_observer(self)
        self._show()

    def get_widget(self) -> QWidget:
        """The line."""
        return self._widget

    def _set(self, text: str) -> None:
        try:
            self._parameter.set_value(max(float(text), 0.0) if text else self._open_value())
        except ValueError:  # not a number: the line shows what holds
            self._show()

    def _open_value(self) -> float:
        return float(self._parameter.get_minimum() or 0.0)

    def _show(self) -> None:
        value = float(self._parameter.get_value())
        self._line.setText('' if value == self._open_value() else f'{value:g}')

    def _update(self, observable: Observable) -> None:
        self._show()


def make_spin_box(parameter: IntegerParameter, field: Field) -> ParameterViewController:
    """Spin box of a number with its unit; the smallest value may mean automatic."""
    controller = SpinBoxParameterViewController(parameter)
    box = controller.get_widget()
    box.setSuffix(format_unit(field))
    box.setSpecialValueText(format_open_value(field, parameter))
    return controller
