"""The panel in Ptychodus: the only module that imports Qt. What it says stands in panel.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import BooleanParameter, IntegerParameter, Parameter, PathParameter, RealParameter
from ptychodus.controller.parameters import (
    CheckBoxParameterViewController,
    DecimalLineEditParameterViewController,
    ParameterViewBuilder,
    ParameterViewController,
    SpinBoxParameterViewController,
)
from ptychodus.controller.processing import ReconstructorViewControllerFactory
from PyQt5.QtCore import QEvent, QObject, QSignalBlocker, Qt
from PyQt5.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from .devices import Devices
from .library import PtychoPINNLibrary
from .panel import ADVANCED, GROUPS, TRAIN, Field, fields, is_installed, status, suffix, tool_tip, train_button, zero
from .reconstructor import PtychoPINNReconstructor
from .settings import HOST_MODEL_PATH

STATUS, TRAIN_BUTTON = 'status', ('source', 'start_from_model')


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panels of the reconstructors of our library."""

    def __init__(self, library: PtychoPINNLibrary, file_dialog_factory: Any) -> None:
        super().__init__()
        self._library, self._dialogs = library, file_dialog_factory
        self._settings = library.settings
        self._devices = Devices(library.settings, library.session, library.get_logger())

    @property
    def name(self) -> str:
        """Of the library."""
        return self._library.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """The panel of a reconstructor, by its name in any case."""
        named = reconstructor_name.casefold()
        reconstructor = next(each for each in self._library.reconstructors if each.name.casefold() == named)
        line = StatusViewController(reconstructor)
        builder = ParameterViewBuilder(self._dialogs)
        builder.add_view_controller_to_top(line)
        for group in GROUPS:
            rows = self._rows(group, reconstructor.model_type)
            if group == ADVANCED:
                builder.add_view_controller_to_bottom(ClosedGroup(group, rows))
                continue
            for label, controller in rows:
                builder.add_view_controller(controller, label, group=group)
        panel = builder.build_widget()
        _finish_labels(panel)
        _guard_wheels(panel)
        panel.installEventFilter(_WhenShown(panel, [line.show, self._devices.look]))
        return panel

    def _rows(self, group: str, model_type: str) -> list[tuple[str, ParameterViewController]]:
        return [(f'{field.label}:', self._controller(field)) for field in fields(group, self._settings, model_type)]

    def _controller(self, field: Field) -> ParameterViewController:
        """The widget of a setting, which has its name."""
        controller = self._bare_controller(field)
        widget = controller.get_widget()
        widget.setObjectName(field.name)
        widget.setToolTip(tool_tip(field, self._settings))
        return controller

    def _bare_controller(self, field: Field) -> ParameterViewController:
        parameter = self._settings[field.name]
        if isinstance(parameter, BooleanParameter):
            return CheckBoxParameterViewController(parameter, '')
        if isinstance(parameter, IntegerParameter):
            return _spin_box(parameter, field)
        if field.name == 'device':
            return DeviceViewController(parameter, self._settings['backend'], self._devices)
        if field.caption:
            return PathViewController(parameter, field, self._dialogs)
        if field.name == 'backend':
            there = [title for title in self._settings.choices('backend') if is_installed(title)]
            return ChoiceViewController(parameter, there, lambda title: '' if is_installed(title) else 'not installed')
        if choices := self._settings.choices(field.name):
            return ChoiceViewController(parameter, choices, titles=dict(field.titles))
        assert isinstance(parameter, RealParameter)
        return DecimalLineEditParameterViewController(parameter)


class StatusViewController(ParameterViewController, Observer):
    """The line that says which model Infer would use; follows ModelPath, which a training and Load Model set."""

    def __init__(self, reconstructor: PtychoPINNReconstructor) -> None:
        super().__init__()
        self._reconstructor = reconstructor
        self._label = QLabel()
        self._label.setObjectName(STATUS)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        reconstructor.settings['model_path'].add_observer(self)

    def get_widget(self) -> QWidget:
        """The label."""
        return self._label

    def show(self) -> None:
        """Say what is so now."""
        now = status(self._reconstructor)
        self._label.setText(now.text)
        self._label.setToolTip(now.tool_tip)
        self._label.setStyleSheet('color: #c62828' if now.wrong else '')

    def _update(self, observable: Observable) -> None:
        if self._label.isVisible():
            self.show()
        self._reconstructor.session.changed()  # a path typed in makes Infer possible, or impossible


class ChoiceViewController(ParameterViewController, Observer):
    """One of several values; another is shown as what it is as long as the settings hold it."""

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
    """A device that was found for the backend, or one that is typed in."""

    def __init__(self, parameter: Parameter[str], backend: Parameter[str], devices: Devices) -> None:
        super().__init__()
        self._parameter, self._backend, self.devices = parameter, backend, devices
        self._box = QComboBox()
        self._box.setEditable(True)
        self._box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._box.activated.connect(self._take)
        line = self._box.lineEdit()
        assert line is not None
        line.editingFinished.connect(self._take)
        for observed in (parameter, backend, devices):
            observed.add_observer(self)
        self._show()

    def get_widget(self) -> QWidget:
        """The combo box."""
        return self._box

    def _take(self) -> None:
        self._parameter.set_value(self._box.currentText().strip() or self.devices.names()[0])

    def _show(self) -> None:
        with QSignalBlocker(self._box):
            self._box.clear()
            self._box.addItems(self.devices.names())
            value = self._parameter.get_value()
            self._box.setCurrentIndex(self._box.findText(value))  # where the arrow keys start from
            self._box.setEditText(value)

    def _update(self, observable: Observable) -> None:
        if observable is self._backend and self._box.isVisible():
            self.devices.look()
        self._show()


class PathViewController(ParameterViewController, Observer):
    """A file or folder, typed or chosen in a dialog; no path is an empty line."""

    def __init__(self, parameter: Parameter[Any], field: Field, dialogs: Any) -> None:
        super().__init__()
        self._parameter, self._field, self._dialogs = parameter, field, dialogs
        self._line, button, self._widget = QLineEdit(), QPushButton('Browse'), QWidget()
        self._line.setPlaceholderText(field.empty)
        layout = QHBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(button)
        self._line.editingFinished.connect(lambda: self._take(self._line.text().strip()))
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
            self._take(str(path))

    def _take(self, text: str) -> None:
        self._parameter.set_value(Path(text) if isinstance(self._parameter, PathParameter) else text)

    def _show(self) -> None:
        text = str(self._parameter.get_value())
        self._line.setText('' if text in ('.', HOST_MODEL_PATH) else text)

    def _update(self, observable: Observable) -> None:
        self._show()


class ClosedGroup(ParameterViewController):
    """A group of settings that is opened by its title."""

    def __init__(self, title: str, rows: Sequence[tuple[str, ParameterViewController]]) -> None:
        self._controllers = [controller for _, controller in rows]
        self._widget, contents, button = QWidget(), QWidget(), QToolButton()
        form = QFormLayout(contents)
        for label, controller in rows:
            form.addRow(label, controller.get_widget())
        button.setText(title)
        button.setObjectName(title)
        button.setCheckable(True)
        button.setAutoRaise(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        layout = QVBoxLayout(self._widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)
        layout.addWidget(contents)

        def open_or_close(is_open: bool) -> None:
            button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
            contents.setVisible(is_open)

        button.toggled.connect(open_or_close)
        open_or_close(False)

    def get_widget(self) -> QWidget:
        """Title and contents."""
        return self._widget


class _WhenShown(QObject):
    """Does something each time that a widget becomes visible."""

    def __init__(self, widget: QWidget, then: Sequence[Callable[[], None]]) -> None:
        super().__init__(widget)
        self._then = then

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        if event is not None and event.type() == QEvent.Type.Show:
            for act in self._then:
                act()
        return False


class _WheelGuard(QObject):
    """Lets the wheel scroll the panel instead of changing the setting that happens to be under the mouse."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        if isinstance(watched, QWidget) and watched.hasFocus():
            return False
        event.ignore()
        return True


def _guard_wheels(panel: QWidget) -> None:
    guard = _WheelGuard(panel)
    for kind in (QComboBox, QAbstractSpinBox):
        for widget in panel.findChildren(kind):
            widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel does not give it
            widget.installEventFilter(guard)


def rows_of(panel: QWidget) -> Iterator[tuple[QWidget, QWidget]]:
    """Label and field of every setting in a panel."""
    roles = (QFormLayout.ItemRole.LabelRole, QFormLayout.ItemRole.FieldRole)
    for form in panel.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            found = [form.itemAt(row, role) for role in roles]
            label, field = (item.widget() for item in found if item is not None)
            if label is not None and field is not None:
                yield label, field


def _finish_labels(panel: QWidget) -> None:
    """A label has the tool tip of its field, and all of them one width, so that the fields stand in one column."""
    labels = []
    for label, field in rows_of(panel):
        label.setToolTip(field.toolTip())
        labels.append(label)
    width = max(label.sizeHint().width() for label in labels)
    for label in labels:
        label.setMinimumWidth(width)


def _spin_box(parameter: IntegerParameter, field: Field) -> ParameterViewController:
    controller = SpinBoxParameterViewController(parameter)
    box = controller.get_widget()
    box.setSuffix(suffix(field))
    box.setSpecialValueText(zero(field, parameter))
    return controller


def follow_training(controller: Any, library: PtychoPINNLibrary) -> None:
    """Let the window select the product in which a training is shown, and its Train button say what it would do."""
    combo_box = controller._product_view_controller.get_widget()
    library.session.select = combo_box.setCurrentIndex
    controller._ptychopinn_button = TrainButton(controller, library)


class TrainButton(Observer):
    """The word on the host's Train button."""

    def __init__(self, controller: Any, library: PtychoPINNLibrary) -> None:
        super().__init__()
        self._button, self._algorithm = controller._actions_view.train_button, controller._algorithm_parameter
        self._settings = library.settings
        for observed in (self._algorithm, *(self._settings[name] for name in TRAIN_BUTTON)):
            observed.add_observer(self)
        self._update(self._algorithm)

    def _update(self, observable: Observable) -> None:
        ours = isinstance(self._algorithm.get_current_reconstructor(), PtychoPINNReconstructor)
        self._button.setText(train_button(self._settings) if ours else TRAIN)
