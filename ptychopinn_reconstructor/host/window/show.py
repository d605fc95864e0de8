"""The window of Ptychodus over a session of ours, for `make gui`; imports Qt."""

from __future__ import annotations

import sys
from collections.abc import Callable

import ptychodus
from ptychodus.controller import ControllerCore
from ptychodus.model import ModelCore
from ptychodus.view import ViewCore
from PyQt5.QtWidgets import QApplication


def show_window(model: ModelCore, then: Callable[[], None]) -> int:
    """Open the window, as Ptychodus's own main does, at its Processing page, and call `then`.

    Returns the exit code when the window is closed.
    """
    application = QApplication(sys.argv[:1])
    view = ViewCore()
    controller = ControllerCore(model, view)
    controller.show_main_window(ptychodus.VERSION_STRING)
    view.processing_action.trigger()
    then()
    return int(application.exec())
