"""The panel in Ptychodus: the only module that imports Qt. (A first version; see PanelFactory.)"""

from __future__ import annotations

from typing import Any

from ptychodus.controller.parameters import ParameterViewBuilder
from ptychodus.controller.processing import ReconstructorViewControllerFactory
from PyQt5.QtWidgets import QWidget

from .library import PtychoPINNLibrary


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of a reconstructor of our library."""

    def __init__(self, library: PtychoPINNLibrary, file_dialog_factory: Any) -> None:
        super().__init__()
        self._library, self._file_dialog_factory = library, file_dialog_factory

    @property
    def name(self) -> str:
        """Of the library."""
        return self._library.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """The panel of a reconstructor."""
        builder = ParameterViewBuilder(self._file_dialog_factory)
        settings = self._library.settings
        builder.add_combo_box(settings['backend'], settings.choices('backend'), 'Backend:', group='Model')
        return builder.build_widget()


def follow_training(controller: Any, library: PtychoPINNLibrary) -> None:
    """Let the window select the product in which a training is shown, as it does for a reconstruction."""
    combo_box = controller._product_view_controller.get_widget()
    library.session.select = combo_box.setCurrentIndex
