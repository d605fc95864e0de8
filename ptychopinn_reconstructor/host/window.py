"""The window of Ptychodus over a session of ours, for `make gui`; imports Qt."""

from __future__ import annotations

import sys

import ptychodus
from ptychodus.controller import ControllerCore
from ptychodus.model import ModelCore
from ptychodus.view import ViewCore
from PyQt5.QtWidgets import QApplication


def show_window(model: ModelCore) -> int:
    """Open the window, as Ptychodus's own main does, at its Processing page; the exit code when it is closed."""
    application = QApplication(sys.argv[:1])
    view = ViewCore()
    controller = ControllerCore(model, view)
    controller.show_main_window(ptychodus.VERSION_STRING)
    view.processing_action.trigger()
    return int(application.exec())
