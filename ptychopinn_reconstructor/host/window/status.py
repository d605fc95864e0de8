"""Status on top of the panel: the running job or what the last one failed by, the model, and the last verdict."""

from __future__ import annotations

from ptychodus.api.observer import Observable, Observer
from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QLabel, QWidget

from ..panel import describe_status, format_job, format_verdict
from ..reconstructor import PtychoPINNReconstructor
from ..wording import say

STATUS = 'status'


class StatusViewController(ParameterViewController, Observer):
    """Label with the running job or the last error, the model that Infer would use, and the last verdict.

    It observes ModelPath, which a training and Load Model set, StartFromObject, and the session's jobs and reliability.
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
        reconstructor.session.status.add_observer(self)

    def get_widget(self) -> QWidget:
        """The label."""
        return self._label

    def show(self) -> None:
        """Update text, tool tip and color."""
        now = describe_status(self._reconstructor)
        session = self._reconstructor.session
        verdict = say(format_verdict(session.reliability.record))
        lines = [format_job(session.status), now.text, verdict]
        self._label.setText('<br>'.join(filter(None, lines)))
        self._label.setToolTip(now.tool_tip)

    def _update(self, observable: Observable) -> None:
        if self._label.isVisible():
            self.show()
        session = self._reconstructor.session
        if observable not in (session.reliability, session.status):
            self._reconstructor.session.changed()  # both settings make Infer possible, or impossible
