"""The connection with a running host: cancel, the main thread, and what a training shows.

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
    session.changed = functools.partial(_look_anew, algorithm, monitor)
    if algorithm.get_value() == 'none_none':
        algorithm.set_value(algorithm.generate_key(library.name, library.reconstructors[0].name))
    _guard_training(core, session, product_api)
    _pass_selected_scan()


def _look_anew(algorithm: Any, monitor: Any) -> None:
    """Infer's button follows the algorithm, the log panel the monitor."""
    algorithm.notify_observers()
    monitor.notify_observers()


class Shown:
    """A product that follows a training."""

    def __init__(self, item: Any, monitor: Any, foreground: Callable[[Callable[[], None]], None]) -> None:
        self.item, self.monitor, self.foreground = item, monitor, foreground
        self.preview: Object | None = None
        self._drawn = threading.Event()
        self._drawn.set()

    def show(
        self, scan: HostScan, preview: Object | None, losses: list[tuple[int, float]], *, last: bool = False
    ) -> None:
        """The losses and the last object that was seen, unless the window has not drawn the ones before yet."""
        if preview is not None:
            self.preview = preview
        if not (last or self._drawn.is_set()):
            return  # a window that draws more slowly than we show would do nothing else any more
        shown = scan.product.object_ if self.preview is None else self.preview
        if shown.get_array().size:
            product = scan.product_with(shown, losses=losses)
            named = dataclasses.replace(
                product.metadata, name=self.item.get_name()
            )  # the host drops losses on renaming
            self._drawn.clear()
            self.monitor.update_product(self.item, ReconstructOutput(dataclasses.replace(product, metadata=named)))
            self.foreground(self._drawn.set)


def _guard_training(core: Any, session: Session, product_api: Any) -> None:
    """The host's `train` refuses a second training while one of ours runs, and shows the one that begins."""
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
            session.training = _shown(session, product_api, api.task_monitor, kwargs, algorithm.get_value())
            original(*args, **kwargs)
        except Exception:
            session.is_training = False
            raise

    api.train = train


def _shown(session: Session, product_api: Any, monitor: Any, kwargs: dict[str, Any], key: str) -> Shown | None:
    """A copy of the selected product, at the end of the host's list, for a training to be shown in."""
    try:
        item = product_api.get_item(kwargs['product_index'])
        name = training_name(item.get_name(), key)
        index = product_api.insert_product(item.get_product(), dataset=item.get_dataset())
        product_api.get_item(index).set_name(name)  # 1.6 cannot name it at once
        session.select(index)
        return Shown(product_api.get_item(index), monitor, session.foreground)
    except Exception as error:  # a training without its picture is better than none
        logger.warning('The training is not shown: %s', error)
        return None


def training_name(name: str, key: str) -> str:
    """The name of the product that shows a training with algorithm `key` on the product `name`.

    Training goes on with a product that has shown one already: its tag, and the host's counter, are not added again.
    """
    tag = f'_{key}_training'
    return re.sub(rf'{re.escape(tag)}(-\d+)?$', '', name) + tag


def _pass_selected_scan() -> None:
    """The host prepares the selected scan for a training and passes it to nobody: take it while the task runs."""
    task = importlib.import_module(TASK_MODULE).TrainBackgroundTask
    original = task.__call__
    if getattr(original, '_ptychopinn_wrapped', False):
        return

    @functools.wraps(original)
    def call(self: Any) -> Any:
        trainer = self.trainer
        if not isinstance(trainer, PtychoPINNReconstructor):
            return original(self)
        with trainer.session.training_on(self.reconstruct_input):
            return original(self)

    call._ptychopinn_wrapped = True  # type: ignore[attr-defined]
    task.__call__ = call
