"""The panel in Ptychodus: the only module that imports Qt. What it says stands in panel.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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
from PyQt5.QtCore import QEvent, QObject, Qt
from PyQt5.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..backend import installed
from ..config import BACKEND_NAMES
from .devices import Devices
from .library import RECONSTRUCTORS, PtychoPINNLibrary
from .panel import ADVANCED, GROUPS, Field, fields, status, tool_tip
from .reconstructor import PtychoPINNReconstructor
from .settings import HOST_MODEL_PATH, PluginSettings

STATUS = 'status'  # the name of the label, as the other widgets have those of their settings


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of a reconstructor of our library."""

    def __init__(self, library: PtychoPINNLibrary, file_dialog_factory: Any) -> None:
        super().__init__()
        self._library, self._dialogs = library, file_dialog_factory
        self._devices = Devices(library.settings, library.session, library.get_logger())

    @property
    def name(self) -> str:
        """Of the library."""
        return self._library.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """The panel of a reconstructor, by its name as it stands in the key of the algorithm."""
        reconstructor = next(r for r in self._library.reconstructors if r.name.casefold() == reconstructor_name)
        builder = ParameterViewBuilder(self._dialogs)
        line = StatusViewController(reconstructor)
        builder.add_view_controller(line, 'In use:', group='Model')
        for group in GROUPS:
            rows = [(f'{field.label}:', self._controller(field)) for field in self._fields(group, reconstructor)]
            if group == ADVANCED:
                builder.add_view_controller_to_bottom(ClosedGroup(group, rows))
                continue
            for label, controller in rows:
                builder.add_view_controller(controller, label, group=group)
        panel = builder.build_widget()
        _finish(panel, then=[line.show, self._devices.look])
        return panel

    def _fields(self, group: str, reconstructor: PtychoPINNReconstructor) -> list[Field]:
        return list(fields(group, self._library.settings, reconstructor.model_type))

    def _controller(self, field: Field) -> ParameterViewController:
        """The widget of a setting, named after it, with its tool tip."""
        controller = self._bare_controller(field)
        widget = controller.get_widget()
        widget.setObjectName(field.name)
        widget.setToolTip(tool_tip(field, self._library.settings))
        return controller

    def _bare_controller(self, field: Field) -> ParameterViewController:
        settings, parameter = self._library.settings, self._library.settings[field.name]
        if field.name == 'device':
            return DeviceViewController(parameter, self._devices, settings['backend'])
        if field.name in FILES:
            return FileViewController(parameter, self._dialogs, field)
        if field.name == 'backend' or settings.choices(field.name):
            return ChoiceViewController(parameter, *_choices(field.name, settings))
        if isinstance(parameter, BooleanParameter):
            return CheckBoxParameterViewController(parameter, '')
        if isinstance(parameter, IntegerParameter):
            return _spin_box(parameter, field)
        assert isinstance(parameter, RealParameter)
        return DecimalLineEditParameterViewController(parameter)
