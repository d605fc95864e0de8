"""Layout of the panel: aligned columns, collapsible groups, and a wheel that scrolls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import QEvent, QObject, Qt
from PyQt5.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QToolButton, QVBoxLayout, QWidget


class ClosedGroup(ParameterViewController):
    """Collapsible group of settings, closed at first."""

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


class ShowWatcher(QObject):
    """Event filter that calls functions each time a widget is shown."""

    def __init__(self, widget: QWidget, then: Sequence[Callable[[], None]]) -> None:
        super().__init__(widget)
        self._then = then

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        if event is not None and event.type() == QEvent.Type.Show:
            for act in self._then:
                act()
        return False


class _WheelGuard(QObject):
    """Event filter that lets the wheel scroll the panel instead of changing the setting under the mouse."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        if isinstance(watched, QWidget) and watched.hasFocus():
            return False
        event.ignore()
        return True


def guard_wheels(panel: QWidget) -> None:
    """Prevent the wheel from changing settings without focus."""
    guard = _WheelGuard(panel)
    for kind in (QComboBox, QAbstractSpinBox):
        for widget in panel.findChildren(kind):
            widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel does not give it
            widget.installEventFilter(guard)


def iterate_rows(panel: QWidget) -> Iterator[tuple[QWidget, QWidget]]:
    """Pairs of label and field of every setting in a panel."""
    roles = (QFormLayout.ItemRole.LabelRole, QFormLayout.ItemRole.FieldRole)
    for form in panel.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            items = [form.itemAt(row, role) for role in roles]
            label, field = (item.widget() for item in items if item is not None)
            if label is not None and field is not None:
                yield label, field


def align_labels(panel: QWidget) -> None:
    """Give each label its field's tool tip, and all labels one width, so that the fields form one column."""
    labels = []
    for label, field in iterate_rows(panel):
        label.setToolTip(field.toolTip())
        labels.append(label)
    width = max(label.sizeHint().width() for label in labels)
    for label in labels:
        label.setMinimumWidth(width)
