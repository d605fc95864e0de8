"""Connection with a running host: cancellation, main thread, and display of a training.

`connect` is called once for each of the host's sessions, by the hook.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ptychodus.api.object import Object
from ptychodus.api.reconstruct import ReconstructOutput

from ..errors import PtychoPINNError
from .reconstructor import PtychoPINNReconstructor
from .scans import HostScan

if TYPE_CHECKING:
    from .library import PtychoPINNLibrary
    from .session import Session

logger = logging.getLogger('ptychopinn_reconstructor')
TASK_MODULE = 'ptychodus.model.processing.monitor'


class BusyError(PtychoPINNError):
    """A training runs already."""


def connect(core: Any, library: PtychoPINNLibrary, task_manager: Any, product_api: Any) -> None:
    """Give a library's session the host's Stop button, main thread and products; choose our algorithm if there is none.

    `core` is the host's ProcessingCore.
    """
    monitor, algorithm = core.processing_api.task_monitor, core.algorithm_parameter
    session = library.session
    session.should_stop = lambda: bool(monitor.is_stopping or task_manager.is_stopping)
    session.closing = lambda: bool(task_manager.is_stopping)
    session.foreground = task_manager.put_foreground_task
    session.changed = functools.partial(_notify_host, algorithm, monitor)
    if algorithm.get_value() == 'none_none':
        algorithm.set_value(algorithm.generate_key(library.name, library.reconstructors[0].name))
    _guard_training(core, session, product_api)
    _pass_selected_scan()


def _notify_host(algorithm: Any, monitor: Any) -> None:
    """Update Infer's button, which observes the algorithm, and the log panel, which observes the monitor."""
    algorithm.notify_observers()
    monitor.notify_observers()


class TrainingProduct:
    """Product that displays object and losses of a running training."""

    def __init__(self, item: Any, monitor: Any, foreground: Callable[[Callable[[], None]], None]) -> None:
        self.item, self.monitor, self.foreground = item, monitor, foreground
        self.preview: Object | None = None
        self._drawn = threading.Event()
        self._drawn.set()

    def show(
        self, scan: HostScan, preview: Object | None, losses: list[tuple[int, float]], *, last: bool = False
    ) -> None:
        """Update losses and object, unless the window has not drawn the previous ones yet."""
        if preview is not None:
            self.preview = preview
        if not (last or self._drawn.is_set()):
            return  # a window that draws more slowly than we show would do nothing else any more
        shown = scan.product.object_ if self.preview is None else self.preview
        if shown.get_array().size:
            product = scan.make_product(shown, losses=losses)
            named = dataclasses.replace(
                product.metadata, name=self.item.get_name()
            )  # the host drops losses on renaming
            self._drawn.clear()
            self.monitor.update_product(self.item, ReconstructOutput(dataclasses.replace(product, metadata=named)))
            self.foreground(self._drawn.set)


def _guard_training(core: Any, session: Session, product_api: Any) -> None:
    """Wrap the host's `train`: refuse a second training while one of ours runs, and display the one that begins."""
    api, algorithm = core.processing_api, core.algorithm_parameter
    original = api.train

    @functools.wraps(original)
    def train(*args: Any, **kwargs: Any) -> None:
        api.set_reconstructor_if_provided(kwargs.get('algorithm'))
        if not isinstance(algorithm.get_current_reconstructor(), PtychoPINNReconstructor):
            original(*args, **kwargs)
            return
        if session.is_training:
            busy = BusyError('A PtychoPINN training is running; stop it, or wait for its end, before starting another.')
            logger.error('%s', busy)
            raise busy
        session.is_training = True
        try:
            session.training = _add_training_product(
                session, product_api, api.task_monitor, kwargs, algorithm.get_value()
            )
            original(*args, **kwargs)
        except Exception:
            session.is_training = False
            raise

    api.train = train


def _add_training_product(
    session: Session, product_api: Any, monitor: Any, kwargs: dict[str, Any], key: str
) -> TrainingProduct | None:
    """Copy of the selected product, at the end of the host's list, that displays a training; None if that fails."""
    try:
        item = product_api.get_item(kwargs['product_index'])
        name = name_training_product(item.get_name(), key)
        index = product_api.insert_product(item.get_product(), dataset=item.get_dataset())
        product_api.get_item(index).set_name(name)  # 1.6 cannot name it at once
        session.select(index)
        return TrainingProduct(product_api.get_item(index), monitor, session.foreground)
    except Exception as error:  # a training without its picture is better than none
        logger.warning('The training is not shown: %s', error)
        return None


def name_training_product(name: str, key: str) -> str:
    """Name of the product that displays a training with algorithm `key` on the product `name`.

    Training goes on with a product that has shown one already: its tag, and the host's counter, are not added again.
    """
    tag = f'_{key}_training'
    return re.sub(rf'{re.escape(tag)}(-\d+)?$', '', name) + tag


def _pass_selected_scan() -> None:
    """Wrap the host's training task to keep the scan that it prepares, but passes to nobody, while it runs."""
    task = importlib.import_module(TASK_MODULE).TrainBackgroundTask
    original = task.__call__
    if getattr(original, '_ptychopinn_wrapped', False):
        return

    @functools.wraps(original)
    def run_with_scan(self: Any) -> Any:
        trainer = self.trainer
        if not isinstance(trainer, PtychoPINNReconstructor):
            return original(self)
        with trainer.session.training_on(self.reconstruct_input):
            return original(self)

    run_with_scan._ptychopinn_wrapped = True  # type: ignore[attr-defined]
    task.__call__ = run_with_scan
