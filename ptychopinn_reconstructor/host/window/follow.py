"""The window follows what our reconstructors do: the product of a training, the word on the Train button."""

from __future__ import annotations

from typing import Any

from ptychodus.api.observer import Observable, Observer

from ..library import PtychoPINNLibrary
from ..panel import TRAIN, train_button
from ..reconstructor import PtychoPINNReconstructor

TRAIN_BUTTON = ('source', 'start_from_model')


def follow_training(controller: Any, library: PtychoPINNLibrary) -> None:
    """Let the window select the product in which a training is shown, and its Train button say what it would do."""
    combo_box = controller._product_view_controller.get_widget()
    library.session.select = combo_box.setCurrentIndex
    controller._ptychopinn_button = TrainButton(controller, library)


class TrainButton(Observer):
    """The word on the host's Train button."""

    def __init__(self, controller: Any, library: PtychoPINNLibrary) -> None:
        super().__init__()
        self._button, self._algorithm = controller._actions_view.train_button, controller._algorithm_parameter
        self._settings = library.settings
        for observed in (self._algorithm, *(self._settings[name] for name in TRAIN_BUTTON)):
            observed.add_observer(self)
        self._update(self._algorithm)

    def _update(self, observable: Observable) -> None:
        ours = isinstance(self._algorithm.get_current_reconstructor(), PtychoPINNReconstructor)
        self._button.setText(train_button(self._settings) if ours else TRAIN)
