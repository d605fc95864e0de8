"""The devices that a user can choose, asked of a worker process: no framework is imported and no GPU touched here."""

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
    """The devices of each backend; observers are notified in the host's main thread when more are known."""

    def __init__(self, settings: PluginSettings, session: Session, logger: logging.Logger) -> None:
        super().__init__()
        self._settings, self._session, self._logger = settings, session, logger
        self._known: dict[str, list[str]] = {}
        self._asked: set[str] = set()

    def names(self) -> list[str]:
        """What can be chosen for the backend in the settings, 'auto' and 'cpu' first."""
        try:
            found = self._known.get(self._settings.backend(), [])
        except PtychoPINNError:
            found = []
        return ALWAYS + [name for name in found if name not in ALWAYS]

    def known(self, backend: str) -> list[str] | None:
        """The devices of a backend by its entry-point name; None when they are not known yet."""
        return self._known.get(backend)

    def look(self) -> None:
        """Ask for the devices of the backend in the settings, unless they are known or being asked for."""
        try:
            backend = self._settings.backend()
        except PtychoPINNError:  # the settings name a backend that is none: told when a job is started
            return
        if backend in self._asked or find_missing_modules(backend):
            return
        self._asked.add(backend)
        threading.Thread(target=self._ask, args=(backend,), daemon=True).start()

    def _ask(self, backend: str) -> None:
        """In a thread of its own; a closing host ends the worker."""
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
        """Tell the observers of the devices of a backend; in the main thread."""
        self._known[backend] = names
        self.notify_observers()
