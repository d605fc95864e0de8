"""Diagnosis of the selected scan: a button in the panel, and a window with what is wrong and what to do about it."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ptychodus.api.observer import Observable, Observer
from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QPixmap
from PyQt5.QtWidgets import QDialog, QDialogButtonBox, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from ..diagnosis import DiagnosisRecord, DiagnosisRun
from ..fields import LABELS
from ..readiness import NO_SCAN
from ..session import Session
from ..wording import say

BUTTON, DIALOG, TEXT, PICTURE = 'diagnosis', 'diagnosis-dialog', 'diagnosis-text', 'diagnosis-picture'
SIZE, HEIGHT = (860, 900), 1250  # of the window at first, and of the picture at most, pixels
WORD = 'Diagnose the scan ...'
TOOL_TIP = (
    'Looks at the scan of the selected product, makes short trial reconstructions (at most a minute of CPU time), and '
    'names what is wrong first and what to do. Nothing is changed.'
)


class DiagnosisViewController(ParameterViewController, Observer):
    """Button that diagnoses the scan of the selected product, beside what the host does, and opens what was found.

    Pressed again it stops a diagnosis that runs.
    """

    def __init__(self, run: DiagnosisRun, session: Session) -> None:
        super().__init__()
        self._run, self._session = run, session
        self._dialog: DiagnosisDialog | None = None
        self._awaited = False
        self._button = QPushButton(WORD)
        self._button.setObjectName(BUTTON)
        self._button.setToolTip(TOOL_TIP)
        self._button.clicked.connect(self._press)
        run.add_observer(self)

    def get_widget(self) -> QWidget:
        """The button."""
        return self._button

    def _press(self) -> None:
        if self._run.line:
            self._run.stop()
            return
        parameters = self._session.read_selected()
        if parameters is None:
            self._button.setToolTip(NO_SCAN)
            self._session.status.fail(NO_SCAN, self._session.foreground)
            return
        self._awaited = True
        self._run.start(parameters)

    def _update(self, observable: Observable) -> None:
        self._button.setText(f'{self._run.line} (press to stop)' if self._run.line else WORD)
        if self._run.line:
            return
        self._button.setToolTip(self._run.problem or TOOL_TIP)
        if self._run.problem and self._awaited:
            self._session.status.fail(self._run.problem, self._session.foreground)
        if self._awaited and self._run.record is not None:
            if self._dialog is not None:
                self._dialog.close()
            self._dialog = DiagnosisDialog(self._run.record, self._button.window())
            self._dialog.show()
        self._awaited = False


class DiagnosisDialog(QDialog):
    """Dialog with the findings, the first cause first, and the picture of the trial reconstructions."""

    def __init__(self, record: DiagnosisRecord, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setObjectName(DIALOG)
        self.setWindowTitle(f'Diagnosis of {record.product}')
        self.text = QLabel('<br>'.join(format_findings(record)))
        self.text.setObjectName(TEXT)
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.addWidget(self.text)
        if record.picture is not None:
            column.addWidget(_make_picture(record.picture))
        column.addStretch()
        scrolled = QScrollArea()
        scrolled.setWidgetResizable(True)
        scrolled.setWidget(inside)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        for widget in (scrolled, buttons):
            layout.addWidget(widget)
        self.resize(*SIZE)


def format_findings(record: DiagnosisRecord) -> Iterator[str]:
    """HTML lines: each finding with its remedy, in the words of the panel, and what the trials have cost."""
    for number, finding in enumerate(record.findings, 1):
        yield f'<b>{number}. {html.escape(finding.code.replace("_", " "))}</b> ({finding.certainty})'
        yield html.escape(_in_words_of_panel(finding.finding))
        yield f'<i>To do:</i> {html.escape(_in_words_of_panel(finding.remedy))}<br>'
    if not record.findings:
        yield '<b>Nothing is wrong</b> with this scan as far as its data and trial reconstructions tell.<br>'
    yield f'Trial reconstructions: {record.trials}, {record.cpu_seconds:.0f} s of CPU time.'


def _in_words_of_panel(text: str) -> str:
    return say(text.replace('--fix', f"'{LABELS['auto']}'"))


def _make_picture(data: bytes) -> QLabel:
    image = QPixmap()
    image.loadFromData(data)
    label = QLabel()
    label.setObjectName(PICTURE)
    height = min(HEIGHT, image.height())
    label.setPixmap(image.scaledToHeight(height, Qt.TransformationMode.SmoothTransformation))
    return label
