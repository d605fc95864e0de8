"""Running jobs in Ptychodus: scratch folder, worker process, log messages and error reporting."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Config
from ..errors import Interrupted, OutputError, PtychoPINNError
from ..events import Notice
from ..worker.handover import Scratch, write_arrays
from ..worker.messages import Log, Message, Started
from ..worker.requests import Request
from .runner import Worker
from .scans import HostScan
from .wording import say

if TYPE_CHECKING:
    from .session import Session
    from .settings import PluginSettings

SCAN_FOLDER = 'scan'


class Jobs:
    """Runs jobs of a reconstructor in worker processes."""

    def __init__(self, settings: PluginSettings, session: Session, logger: logging.Logger) -> None:
        self._settings, self._session, self._logger = settings, session, logger

    def scratch(self, size: int) -> Scratch:
        """Scratch folder with room for `size` bytes, where the settings ask for it."""
        return Scratch(size, self._settings.scratch_folder())

    def worker(self, scratch: Path, config: Config) -> Worker:
        """Worker process that the host's Stop ends."""
        return Worker(scratch, config.execution.backend, self._session.should_stop)

    def run(self, worker: Worker, request: Request) -> Iterator[Message]:
        """Messages of a job, without those that only go to the log; a stop ends the iteration."""
        worker.ask(request)
        try:
            for message in worker.events():
                if isinstance(message, Log):
                    level = logging.getLevelNamesMapping().get(message.level.upper(), logging.INFO)
                    self._logger.log(level, '%s', say(message.message))
                elif isinstance(message, Started):
                    self._logger.info('%s on %s.', message.backend, message.device)
                    self.tell(f'{message.backend} on {message.device}: preparing the scan ...')
                else:
                    yield message
        except Interrupted as stopped:
            self._logger.warning('%s', stopped)
        except GeneratorExit:  # the host has seen its Stop before the job did, and closes this iterator
            self._logger.warning('%s', worker.when_stopped)
            raise

    def tell(self, line: str) -> None:
        """Show a line on the running job in the window."""
        self._session.status.tell(line, self._session.foreground)

    def warn(self, notices: Iterable[Notice]) -> None:
        """Log notices as warnings."""
        for notice in notices:
            self._logger.warning('%s', say(notice.text))

    @contextmanager
    def log_errors(self) -> Iterator[None]:
        """Context that also logs errors, since the host does not show those of its worker thread."""
        try:
            yield
        except PtychoPINNError as error:
            error.args = (say(str(error)), *error.args[1:])  # the host's dialogs show it too
            self._log_error(str(error))
            raise
        except OSError as error:
            self._log_error(text := f'A file cannot be read or written: {error}; check the folder.')
            raise OutputError(text) from error
        except Exception as error:  # a fault of ours, or of the host's: it must be seen too
            self._log_error(f'PtychoPINN has failed: {type(error).__name__}: {error}')
            raise

    def _log_error(self, text: str) -> None:
        self._logger.error('%s', text)
        self._session.status.fail(text, self._session.foreground)
        self._session.foreground(self._session.changed)


def hand_over(scan: HostScan, scratch: Path) -> Path:
    """Folder into which the scan is written, for the worker to memory-map."""
    folder = scratch / SCAN_FOLDER
    write_arrays(folder, scan.arrays(), scan.description())
    return folder
