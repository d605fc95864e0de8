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
from .job_status import FINISHING
from .readiness import describe_training
from .reconstructor import PtychoPINNReconstructor
from .scans import HostScan

if TYPE_CHECKING:
    from .library import PtychoPINNLibrary
    from .session import Session

logger = logging.getLogger('ptychopinn_reconstructor')
Task = Callable[[Any], Any]
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
    session.in_background = _start_thread
    session.changed = functools.partial(_notify_host, algorithm, monitor)
    if algorithm.get_value() == 'none_none':
        algorithm.set_value(algorithm.generate_key(library.name, library.reconstructors[0].name))
    _guard_training(core, session, product_api)
    _guard_reconstruction(core, session, product_api)
    _wrap_tasks()


def _start_thread(task: Callable[[], None]) -> None:
    """Run a function in a thread that does not keep a host from ending."""
    threading.Thread(target=task, daemon=True).start()


def _notify_host(algorithm: Any, monitor: Any) -> None:
    """Update Infer's button, which observes the algorithm, and the log panel, which observes the monitor."""
    algorithm.notify_observers()
    monitor.notify_observers()


class TrainingProduct:
    """Product that displays object and losses of a running training."""

    def __init__(self, item: Any, monitor: Any, foreground: Callable[[Callable[[], None]], None]) -> None:
        self.item, self.monitor, self.foreground = item, monitor, foreground
        self.preview: Object | None = None
        self.held_out: list[tuple[int, float]] = []
        self.is_shown = False
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
            self.is_shown = self.is_shown or bool(losses) or self.preview is not None
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
        if reason := describe_training(session):
            busy = BusyError(reason)
            logger.error('%s', busy)
            raise busy
        session.is_training = True
        try:
            session.training = _add_training_product(
                session, product_api, api.task_monitor, kwargs, algorithm.get_value()
            )
            session.status.begin(_describe_begin(algorithm.get_current_reconstructor(), api.task_monitor))
            original(*args, **kwargs)
        except Exception as error:
            session.is_training = False
            session.status.fail(str(error), session.foreground)
            raise

    api.train = train


def _guard_reconstruction(core: Any, session: Session, product_api: Any) -> None:
    """Wrap the host's `reconstruct` to say at once that a job begins, and to know which product it is made from."""
    api, algorithm = core.processing_api, core.algorithm_parameter
    original = api.reconstruct

    @functools.wraps(original)
    def reconstruct(*args: Any, **kwargs: Any) -> Any:
        api.set_reconstructor_if_provided(kwargs.get('algorithm'))
        reconstructor = algorithm.get_current_reconstructor()
        if not isinstance(reconstructor, PtychoPINNReconstructor):
            return original(*args, **kwargs)
        session.status.begin(_describe_begin(reconstructor, api.task_monitor))
        given = product_api.get_item(kwargs['product_index'])
        index = original(*args, **kwargs)
        if not kwargs.get('block'):
            session.sources[id(product_api.get_item(index))] = given
        return index

    api.reconstruct = reconstruct


def _describe_begin(reconstructor: PtychoPINNReconstructor, monitor: Any) -> str:
    """Line on a job that was just asked for."""
    if monitor.is_processing:
        return 'Waiting for the running job ...'
    title = reconstructor.settings['backend'].get_value()
    return f'Starting {title} ...'


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
        shown = product_api.get_item(index)
        session.sources[id(shown)] = item
        return TrainingProduct(shown, monitor, session.foreground)
    except Exception as error:  # a training without its picture is better than none
        logger.warning('The training is not shown: %s', error)
        return None


def name_training_product(name: str, key: str) -> str:
    """Name of the product that displays a training with algorithm `key` on the product `name`.

    Training goes on with a product that has shown one already: its tag, and the host's counter, are not added again.
    """
    tag = f'_{key}_training'
    return re.sub(rf'{re.escape(tag)}(-\d+)?$', '', name) + tag


def _wrap_tasks() -> None:
    """Wrap the host's tasks: keep the scan that it prepares for a training, but passes to nobody, while that runs.

    What a task has shown nothing in is discarded.
    """
    module = importlib.import_module(TASK_MODULE)
    for task, run in ((module.TrainBackgroundTask, _run_training), (module.ReconstructBackgroundTask, _run_inference)):
        original = task.__call__
        if not getattr(original, '_ptychopinn_wrapped', False):
            task.__call__ = _wrap_task(original, run)


def _wrap_task(
    original: Callable[[Any], Any], run: Callable[[Callable[[], Any], Any, Any], Any]
) -> Callable[[Any], Any]:
    @functools.wraps(original)
    def call(self: Any) -> Any:
        ours = getattr(self, 'trainer', None) or getattr(self, 'reconstructor', None)
        if not isinstance(ours, PtychoPINNReconstructor):
            return original(self)
        session = ours.session
        session.status.has_output = False
        try:
            return run(functools.partial(original, self), self, session)
        finally:
            session.status.tell(FINISHING if session.is_finishing else '', session.foreground)
            session.foreground(session.changed)

    call._ptychopinn_wrapped = True  # type: ignore[attr-defined]
    return call


def _run_training(original: Callable[[], Any], task: Any, session: Session) -> Any:
    with session.training_on(task.reconstruct_input):
        shown = session.training
        try:
            return original()
        finally:
            if isinstance(shown, TrainingProduct) and not shown.is_shown:
                _discard(shown.item, session)


def _run_inference(original: Callable[[], Any], task: Any, session: Session) -> Any:
    try:
        return original()
    finally:
        if not session.status.has_output:
            _discard(task.product_item, session)


def _discard(item: Any, session: Session) -> None:
    """Remove the product of a job that has shown nothing in it, from the window: a script counts on its index."""
    session.foreground(functools.partial(session.discard, item, session.sources.pop(id(item), None)))
