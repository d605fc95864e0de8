"""The host's own widgets while ours is the algorithm: products, loss curve, log."""

from __future__ import annotations

from typing import Any

from PyQt5.QtCore import QTimer

from ..connection import TrainingProduct
from ..library import PtychoPINNLibrary
from ..session import Session
from .buttons import ActionButtons

HELD_OUT = 'Held-out loss'


def follow_jobs(controller: Any, library: PtychoPINNLibrary) -> None:
    """Let the window show what our jobs do: their products and losses, the log's end, and what can be pressed."""
    combo_box, repository = controller._product_view_controller.get_widget(), controller._product_repository
    library.session.select = combo_box.setCurrentIndex

    def discard(item: Any, source: Any) -> None:
        if source is not None and combo_box.currentIndex() == _find_index(repository, item):
            combo_box.setCurrentIndex(_find_index(repository, source))
        if (index := _find_index(repository, item)) >= 0:
            repository.remove_product(index)

    def read_selected() -> Any:
        index = combo_box.currentIndex()
        there = 0 <= index < len(repository) and repository[index].get_dataset() is not None
        return controller._processing_api.get_reconstruct_input(product_index=index) if there else None

    library.session.discard = discard
    if hasattr(controller._processing_api, 'get_reconstruct_input'):
        library.session.read_selected = read_selected
    _draw_held_out(controller, library.session, repository)
    controller._ptychopinn_log = LogFollower(controller._status_view.text_edit)
    controller._ptychopinn_buttons = ActionButtons(controller, library)


def _find_index(repository: Any, item: Any) -> int:
    """Index of a product in the host's repository; -1 if it is not there."""
    return next((index for index, other in enumerate(repository) if other is item), -1)


def _draw_held_out(controller: Any, session: Session, repository: Any) -> None:
    """Wrap the drawing of the loss curve: that of a training gets the held-out loss as a second one."""
    status, original = controller._status_controller, controller._status_controller.plot_losses
    curves: list[tuple[Any, list[tuple[int, float]]]] = []  # of the products trained in this window

    def plot_losses(product_index: int) -> None:
        original(product_index)
        shown = session.training
        if isinstance(shown, TrainingProduct) and shown.held_out:
            others = [one for one in curves if one[0] is not shown.item and _find_index(repository, one[0]) >= 0]
            curves[:] = [*others, (shown.item, list(shown.held_out))]
        for item, curve in curves:
            if 0 <= product_index == _find_index(repository, item):
                drawn = [loss.epoch for loss in item.get_losses()]
                draw([pair for pair in curve if drawn and pair[0] <= drawn[-1]])

    def draw(held_out: list[tuple[int, float]]) -> None:
        if held_out:
            axes = controller._status_view.axes
            axes.semilogy(*zip(*held_out, strict=True), '.-', label=HELD_OUT, linewidth=2.0)
            axes.legend()
            controller._status_view.figure_canvas.draw()

    status.plot_losses = plot_losses


class LogFollower:
    """Keeps the end of a log in sight, unless somebody has scrolled away from it.

    The text box does so by itself only while it is at its end, which it is no longer once it was made smaller.
    """

    def __init__(self, text_edit: Any) -> None:
        self._bar = text_edit.verticalScrollBar()
        self._follows = True
        self._bar.actionTriggered.connect(lambda action: QTimer.singleShot(0, self._look))
        self._bar.rangeChanged.connect(lambda low, high: self._follow())
        text_edit.textChanged.connect(self._follow)

    def _look(self) -> None:
        self._follows = self._bar.value() == self._bar.maximum()

    def _follow(self) -> None:
        if self._follows:
            self._bar.setValue(self._bar.maximum())
