"""Reliability of the last reconstruction: a button in the panel, and a window with the pictures."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ...errors import PtychoPINNError
from ..last_reliability import LastReliability, ReliabilityRecord
from ..panel import format_verdict
from ..wording import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUTTON, DIALOG = 'reliability', 'reliability-dialog'
DPI, SIDE, COLUMNS = 75, 340, 2  # of a picture: dots per inch, pixels at least; and how many stand side by side
SIZE = (940, 960)  # of the window at first, pixels
WORDS = {
    'residual_map': 'How far the patterns that the object predicts are from the measured ones. An island of bad ones '
    'is a moved position, a drifted probe or a shutter. It cannot see what changes no pattern: slow phase waves over '
    'many spots, areas without light.',
    'uncertainty': 'Of a refined object: within so much of it the true transmission lies in 90 of 100 pixels, where '
    'the verdict is good; a phase within so many radians where the amplitude is 1. Without refinement: how far the '
    'patches of the network, or several models, disagree; it cannot see errors that all share.',
    'learned_change': 'Where and by how much a network that has seen other objects changed this one after the passes. '
    'The patterns allow it and do not prove it: fine detail in bright places needs other evidence.',
    'coverage': 'Where enough light has fallen. Outside, the object is guessed.',
    'split_frc': 'Two halves of the patterns, reconstructed apart: the resolution is where they stop agreeing. It '
    'cannot see what both have in common: network, probe, wrong positions.',
}


class ReliabilityViewController(ParameterViewController, Observer):
    """Button that opens the pictures; disabled before the first reconstruction of a session."""

    def __init__(self, reliability: LastReliability, dialogs: Any) -> None:
        super().__init__()
        self._reliability, self._dialogs = reliability, dialogs
        self._dialog: ReliabilityDialog | None = None
        self._button = QPushButton('Reliability of the last reconstruction ...')
        self._button.setObjectName(BUTTON)
        self._button.clicked.connect(self._open)
        reliability.add_observer(self)
        self._update(reliability)

    def get_widget(self) -> QWidget:
        """The button."""
        return self._button

    def _open(self) -> None:
        record = self._reliability.record
        assert record is not None  # the button is disabled without
        if self._dialog is not None:
            self._dialog.close()
        self._dialog = ReliabilityDialog(record, self._dialogs, self._button.window())
        self._dialog.show()

    def _update(self, observable: Observable) -> None:
        record = self._reliability.record
        self._button.setEnabled(record is not None)
        self._button.setToolTip('Infer first.' if record is None else f'Of {record.product}: {record.line}.')


class ReliabilityDialog(QDialog):
    """Dialog with the verdict and its reasons, the summary line, and the pictures, which can be saved."""

    def __init__(self, record: ReliabilityRecord, dialogs: Any, parent: QWidget | None) -> None:
        super().__init__(parent)
        from ...reconstruction.diagnostic_pictures import pictures

        self._reliability, self._dialogs = record.reliability(), dialogs
        self.setObjectName(DIALOG)
        self.setWindowTitle(f'Reliability of {record.product}')
        self.verdict = QLabel('<br>'.join(_format_reasons(record)))
        self.verdict.setWordWrap(True)
        self.verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.line = QLabel(f'{record.line[:1].upper()}{record.line[1:]}.')
        self.line.setWordWrap(True)
        self.line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        inside = QWidget()
        grid = QGridLayout(inside)
        for number, (name, figure) in enumerate(pictures(self._reliability).items()):
            row, column = divmod(number, COLUMNS)
            grid.addWidget(_make_canvas(name, figure), 2 * row, column)
            grid.addWidget(_make_caption(name), 2 * row + 1, column)
            grid.setRowStretch(2 * row, 1)
        scrolled = QScrollArea()
        scrolled.setWidgetResizable(True)
        scrolled.setWidget(inside)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        self.save_button = QPushButton('Save Pictures')
        self.save_button.clicked.connect(self._save)
        buttons.addButton(self.save_button, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        for widget in (self.verdict, self.line, scrolled, buttons):
            layout.addWidget(widget)
        self.resize(*SIZE)

    def _save(self) -> None:
        from ptychodus.view.widgets import ExceptionDialog

        from ...reconstruction.writing import write_reliability

        folder = self._dialogs.get_existing_directory_path(self, 'Choose Folder for the Pictures')
        if folder:
            try:
                write_reliability(Path(folder), self._reliability)
            except PtychoPINNError as error:
                ExceptionDialog.show_exception('Save Pictures', error)


def _format_reasons(record: ReliabilityRecord) -> Iterator[str]:
    """HTML lines: the verdict, then likely causes and remedy of each reason."""
    yield format_verdict(record)
    for reason in record.verdict.reasons if record.verdict is not None else ():
        text = say(f'{reason.finding}. Likely: {reason.causes}. To do: {reason.remedy}.')
        yield html.escape(f'{text[:1].upper()}{text[1:]}')


def _make_canvas(name: str, figure: Figure) -> QWidget:
    """Canvas widget of a figure."""
    from matplotlib.backends import backend_qtagg

    canvas_of: Any = backend_qtagg.FigureCanvasQTAgg  # which tells no types
    figure.set_dpi(DPI)
    canvas: QWidget = canvas_of(figure)
    canvas.setObjectName(name)
    canvas.setMinimumSize(SIDE, SIDE)
    return canvas


def _make_caption(name: str) -> QLabel:
    """Label with the caption of a picture."""
    words = QLabel(WORDS[name])
    words.setObjectName(f'{name}-words')
    words.setWordWrap(True)
    words.setAlignment(Qt.AlignmentFlag.AlignTop)
    return words
