"""What the panel does with its widgets: one column of fields, a closed group, a wheel that scrolls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import QEvent, QObject, Qt
from PyQt5.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QToolButton, QVBoxLayout, QWidget


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


class WhenShown(QObject):
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


def guard_wheels(panel: QWidget) -> None:
    """Keep the wheel from changing settings."""
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


def finish_labels(panel: QWidget) -> None:
    """A label has the tool tip of its field, and all of them one width, so that the fields stand in one column."""
    labels = []
    for label, field in rows_of(panel):
        label.setToolTip(field.toolTip())
        labels.append(label)
    width = max(label.sizeHint().width() for label in labels)
    for label in labels:
        label.setMinimumWidth(width)
