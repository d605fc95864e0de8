"""Selection of the product that displays a training, and the word on the Train button."""

from __future__ import annotations

from typing import Any

from ptychodus.api.observer import Observable, Observer

from ..library import PtychoPINNLibrary
from ..panel import TRAIN, label_train_button
from ..reconstructor import PtychoPINNReconstructor

TRAIN_BUTTON = ('source', 'start_from_model')


def follow_training(controller: Any, library: PtychoPINNLibrary) -> None:
    """Select the product that displays a training in the window, and name its Train button after the action."""
    combo_box = controller._product_view_controller.get_widget()
    library.session.select = combo_box.setCurrentIndex
    controller._ptychopinn_button = TrainButton(controller, library)


class TrainButton(Observer):
    """Observer that sets the word on the host's Train button."""

    def __init__(self, controller: Any, library: PtychoPINNLibrary) -> None:
        super().__init__()
        self._button, self._algorithm = controller._actions_view.train_button, controller._algorithm_parameter
        self._settings = library.settings
        for observed in (self._algorithm, *(self._settings[name] for name in TRAIN_BUTTON)):
            observed.add_observer(self)
        self._update(self._algorithm)

    def _update(self, observable: Observable) -> None:
        ours = isinstance(self._algorithm.get_current_reconstructor(), PtychoPINNReconstructor)
        self._button.setText(label_train_button(self._settings) if ours else TRAIN)
