"""Selectable devices, queried in a worker process: no framework is imported and no GPU touched in this one."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

from ptychodus.api.observer import Observable

from ..backend import find_missing_modules
from ..errors import Interrupted, PtychoPINNError
from ..worker.handover import Scratch
from ..worker.messages import DevicesDone
from ..worker.requests import DevicesRequest
from .runner import Worker

if TYPE_CHECKING:
    from .session import Session
    from .settings import PluginSettings

ALWAYS = ['auto', 'cpu']


class Devices(Observable):
    """Devices of each backend; observers are notified in the host's main thread when more are known."""

    def __init__(self, settings: PluginSettings, session: Session, logger: logging.Logger) -> None:
        super().__init__()
        self._settings, self._session, self._logger = settings, session, logger
        self._known: dict[str, list[str]] = {}
        self._asked: set[str] = set()

    def list_names(self) -> list[str]:
        """Names of the devices of the backend in the settings, 'auto' and 'cpu' first."""
        try:
            devices = self._known.get(self._settings.backend(), [])
        except PtychoPINNError:
            devices = []
        return ALWAYS + [name for name in devices if name not in ALWAYS]

    def known(self, backend: str) -> list[str] | None:
        """Devices of a backend by its entry-point name; None while unknown."""
        return self._known.get(backend)

    def query(self) -> None:
        """Query the devices of the backend in the settings, unless known or already queried."""
        try:
            backend = self._settings.backend()
        except PtychoPINNError:  # the settings name a backend that is none: told when a job is started
            return
        if backend in self._asked or find_missing_modules(backend):
            return
        self._asked.add(backend)
        threading.Thread(target=self._query_worker, args=(backend,), daemon=True).start()

    def _query_worker(self, backend: str) -> None:
        """Query a worker, in a thread of its own; a closing host ends it."""
        try:
            with (
                Scratch(0, self._settings.scratch_folder()) as scratch,
                Worker(scratch.path, should_stop=self._session.closing) as worker,
            ):
                worker.ask(DevicesRequest(backends=(backend,)))
                (done,) = (message for message in worker.events() if isinstance(message, DevicesDone))
        except Interrupted:
            return
        except (PtychoPINNError, OSError) as error:
            self._logger.info('The devices are not known, auto and cpu can be chosen: %s', error)
            self._session.foreground(self._session.changed)
            self._asked.discard(backend)
            return
        self._session.foreground(functools.partial(self.add, backend, done.devices[backend]))

    def add(self, backend: str, names: list[str]) -> None:
        """Record the devices of a backend and notify the observers; called in the main thread."""
        self._known[backend] = names
        self.notify_observers()
