"""Status line on top of the panel: the model that Infer would use, and the verdict on the last reconstruction."""

from __future__ import annotations

from ptychodus.api.observer import Observable, Observer
from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QLabel, QWidget

from ..panel import describe_status, format_verdict
from ..reconstructor import PtychoPINNReconstructor

STATUS = 'status'


class StatusViewController(ParameterViewController, Observer):
    """Label with the model that Infer would use, and the verdict on the last reconstruction.

    It observes ModelPath, which a training and Load Model set, StartFromObject, and the reliability of the session.
    """

    def __init__(self, reconstructor: PtychoPINNReconstructor) -> None:
        super().__init__()
        self._reconstructor = reconstructor
        self._label = QLabel()
        self._label.setObjectName(STATUS)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for name in ('model_path', 'start_from_object'):
            reconstructor.settings[name].add_observer(self)
        reconstructor.session.reliability.add_observer(self)

    def get_widget(self) -> QWidget:
        """The label."""
        return self._label

    def show(self) -> None:
        """Update text, tool tip and color."""
        now = describe_status(self._reconstructor)
        verdict = format_verdict(self._reconstructor.session.reliability.record)
        self._label.setText('<br>'.join(filter(None, [now.text, verdict])))
        self._label.setToolTip(now.tool_tip)
        self._label.setStyleSheet('color: #c62828' if now.wrong else '')

    def _update(self, observable: Observable) -> None:
        if self._label.isVisible():
            self.show()
        if observable is not self._reconstructor.session.reliability:
            self._reconstructor.session.changed()  # both settings make Infer possible, or impossible
