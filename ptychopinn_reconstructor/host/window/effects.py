"""Settings that have no effect beside the others are grey, and their tool tips say why; the size of a region."""

from __future__ import annotations

from ptychodus.api.observer import Observable, Observer
from ptychodus.controller.parameters import ParameterViewController
from PyQt5.QtWidgets import QLabel, QWidget

from ..effects import DECISIVE, OF_REGIONS, describe_region, explain_no_effect
from ..settings import PluginSettings
from .layout import iterate_rows

REGION = 'region'


class EffectWatcher(Observer):
    """Observer that greys the rows of a panel that have no effect."""

    def __init__(self, panel: QWidget, settings: PluginSettings, model_type: str) -> None:
        super().__init__()
        self._settings, self._model_type = settings, model_type
        self._rows = {field.objectName(): (label, field, field.toolTip()) for label, field in iterate_rows(panel)}
        for name in DECISIVE:
            settings[name].add_observer(self)
        self.update()

    def update(self) -> None:
        """Enable each row, or grey it with the reason before its tool tip."""
        for name, (label, field, tool_tip) in self._rows.items():
            reason = explain_no_effect(name, self._settings, self._model_type)
            for widget in (label, field):
                widget.setEnabled(not reason)
                widget.setToolTip(f'<p><b>{reason}</b></p>{tool_tip}' if reason else tool_tip)

    def _update(self, observable: Observable) -> None:
        self.update()


class RegionViewController(ParameterViewController, Observer):
    """Label with the number of patterns in a region, which follows from several settings."""

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__()
        self._settings = settings
        self._label = QLabel()
        self._label.setObjectName(REGION)
        self._label.setToolTip('What Grid size, Neighbors, Shared canvas and Use the positions come to in a training.')
        for name in OF_REGIONS:
            settings[name].add_observer(self)
        self._show()

    def get_widget(self) -> QWidget:
        """The label."""
        return self._label

    def _show(self) -> None:
        self._label.setText(describe_region(self._settings))

    def _update(self, observable: Observable) -> None:
        self._show()
