"""The host's buttons Infer and Train: their words, whether they can work, and if not, why."""

from __future__ import annotations

from typing import Any

from ptychodus.api.observer import Observable, Observer

from ..library import PtychoPINNLibrary
from ..panel import TRAIN, label_train_button
from ..readiness import explain_infer, explain_train
from ..reconstructor import PtychoPINNReconstructor

FOLLOWED = ('source', 'start_from_model', 'start_from_object', 'resume', 'model_path')


class ActionButtons(Observer):
    """Observer that names the Train button, and enables each button where it can work; else its tool tip says why.

    The host enables both by the product alone, at events of its own: this one comes after it.
    """

    def __init__(self, controller: Any, library: PtychoPINNLibrary) -> None:
        super().__init__()
        self._train, self._infer = controller._actions_view.train_button, controller._actions_view.reconstruct_button
        self._algorithm, self._settings = controller._algorithm_parameter, library.settings
        self._products, self._combo_box = (
            controller._product_repository,
            controller._product_view_controller.get_widget(),
        )
        self._monitor = controller._processing_api.task_monitor
        for observed in (self._algorithm, self._monitor, *(self._settings[name] for name in FOLLOWED)):
            observed.add_observer(self)
        for name in ('_sync_model_to_view', '_sync_action_buttons_to_selection'):
            setattr(controller, name, self._come_after(getattr(controller, name)))
        self._combo_box.currentIndexChanged.connect(lambda index: self.update())
        self._was_ours = False
        self.update()

    def _come_after(self, original: Any) -> Any:
        def act() -> None:
            original()
            self.update()

        return act

    def update(self) -> None:
        """Set words, tool tips and whether the buttons are enabled; another algorithm's are the host's."""
        reconstructor = self._algorithm.get_current_reconstructor()
        ours = isinstance(reconstructor, PtychoPINNReconstructor)
        if ours:
            item = self._item()
            self._train.setText(label_train_button(self._settings))
            _enable(self._train, explain_train(reconstructor, item))
            _enable(self._infer, explain_infer(reconstructor, item))
        elif self._was_ours:
            self._train.setText(TRAIN)
            for button in (self._train, self._infer):
                _enable(button, '' if self._item() is not None else 'There is no product.')
                button.setToolTip('')
        self._was_ours = ours

    def _item(self) -> Any:
        """Item of the selected product; None while there is none that can be used."""
        index = self._combo_box.currentIndex()
        item = self._products[index] if 0 <= index < len(self._products) else None
        return None if item is None or _is_unusable(item) else item

    def _update(self, observable: Observable) -> None:
        self.update()


def _enable(button: Any, reason: str) -> None:
    button.setEnabled(not reason)
    button.setToolTip(reason)


def _is_unusable(item: Any) -> bool:
    """Whether a product is not loaded yet, or could not be; 1.6 has no such state."""
    return any(hasattr(item, name) and getattr(item, name)() for name in ('is_pending', 'is_failed'))
