"""Panels of the reconstructors."""

from __future__ import annotations

from typing import Any

from ptychodus.api.parameters import BooleanParameter, IntegerParameter, RealParameter
from ptychodus.controller.parameters import (
    CheckBoxParameterViewController,
    DecimalLineEditParameterViewController,
    ParameterViewBuilder,
    ParameterViewController,
)
from ptychodus.controller.processing import ReconstructorViewControllerFactory
from PyQt5.QtWidgets import QWidget

from ..devices import Devices
from ..diagnosis import DiagnosisRun
from ..fields import GROUPS, LABELS, MAIN, Field
from ..library import PtychoPINNLibrary
from ..panel import format_tool_tip, is_installed, list_fields
from ..settings import OPEN
from .diagnosis import DiagnosisViewController
from .effects import EffectWatcher, RegionViewController
from .fields import (
    ChoiceViewController,
    DeviceViewController,
    OptionalNumberViewController,
    PathsViewController,
    PathViewController,
    make_spin_box,
)
from .layout import ClosedGroup, ShowWatcher, align_labels, guard_wheels
from .reliability import ReliabilityViewController
from .status import StatusViewController


class PanelFactory(ReconstructorViewControllerFactory):
    """Factory of the panels of our library's reconstructors."""

    def __init__(self, library: PtychoPINNLibrary, file_dialog_factory: Any) -> None:
        super().__init__()
        self._library, self._dialogs = library, file_dialog_factory
        self._settings = library.settings
        self._devices = Devices(library.settings, library.session, library.get_logger())
        self._diagnosis = DiagnosisRun(library.settings, library.session, library.get_logger())

    @property
    def name(self) -> str:
        """Name of the library."""
        return self._library.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """Panel of a reconstructor, by its case-insensitive name."""
        named = reconstructor_name.casefold()
        reconstructor = next(each for each in self._library.reconstructors if each.name.casefold() == named)
        line = StatusViewController(reconstructor)
        builder = ParameterViewBuilder(self._dialogs)
        builder.add_view_controller_to_top(line)
        builder.add_view_controller_to_top(ReliabilityViewController(self._library.session.reliability, self._dialogs))
        builder.add_view_controller_to_top(DiagnosisViewController(self._diagnosis, self._library.session))
        for group in GROUPS:
            rows = self._rows(group, reconstructor.model_type)
            if group != MAIN:
                builder.add_view_controller_to_bottom(ClosedGroup(group, rows))
                continue
            for label, controller in rows:
                builder.add_view_controller(controller, label, group=group)
        panel = builder.build_widget()
        align_labels(panel)
        EffectWatcher(panel, self._settings, reconstructor.model_type)  # the settings keep their observers
        guard_wheels(panel)
        panel.installEventFilter(ShowWatcher(panel, [line.show, self._devices.query]))
        return panel

    def _rows(self, group: str, model_type: str) -> list[tuple[str, ParameterViewController]]:
        rows = [
            (f'{field.label}:', self._controller(field)) for field in list_fields(group, self._settings, model_type)
        ]
        number = next((i for i, (label, _) in enumerate(rows) if label == f'{LABELS["neighbor_count"]}:'), None)
        if number is not None:
            rows.insert(number + 1, ('Region:', RegionViewController(self._settings)))
        return rows

    def _controller(self, field: Field) -> ParameterViewController:
        """Controller of a setting's widget, which is named after it."""
        controller = self._bare_controller(field)
        widget = controller.get_widget()
        widget.setObjectName(field.name)
        widget.setToolTip(format_tool_tip(field, self._settings))
        return controller

    def _bare_controller(self, field: Field) -> ParameterViewController:
        parameter = self._settings[field.name]
        if isinstance(parameter, BooleanParameter):
            return CheckBoxParameterViewController(parameter, '')
        if isinstance(parameter, IntegerParameter):
            return make_spin_box(parameter, field)
        if field.name == 'device':
            return DeviceViewController(parameter, self._settings['backend'], self._devices)
        if field.caption:
            kind = PathsViewController if field.many else PathViewController
            return kind(parameter, field, self._dialogs)
        if field.name == 'backend':
            there = [title for title in self._settings.choices('backend') if is_installed(title)]
            return ChoiceViewController(parameter, there, lambda title: '' if is_installed(title) else 'not installed')
        if choices := self._settings.choices(field.name):
            return ChoiceViewController(parameter, choices, titles=dict(field.titles))
        assert isinstance(parameter, RealParameter)
        if field.name in OPEN:
            return OptionalNumberViewController(parameter, field)
        return DecimalLineEditParameterViewController(parameter)
