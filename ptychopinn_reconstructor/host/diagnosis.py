"""The diagnosis of a scan of the host, in a worker process beside the host's own tasks."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptychodus.api.observer import Observable
from ptychodus.api.reconstruct import ReconstructInput

from ..diagnosis.finding import Finding
from ..errors import Interrupted, PtychoPINNError
from ..worker.handover import Scratch
from ..worker.messages import DiagnoseDone, Progress
from ..worker.requests import DiagnoseRequest
from .jobs import hand_over
from .runner import Worker
from .scans import HostScan
from .wording import say

if TYPE_CHECKING:
    from .session import Session
    from .settings import PluginSettings


@dataclass(frozen=True)
class DiagnosisRecord:
    """Product name, findings, the first cause first, what the trials have cost, and their picture (PNG) or none."""

    product: str
    findings: tuple[Finding, ...]
    trials: int
    cpu_seconds: float
    picture: bytes | None


class DiagnosisRun(Observable):
    """One diagnosis at a time, and the record of the last; observers are notified in the host's main thread.

    `line` says how far the running one is, empty while none runs; `problem` why the last one failed.
    """

    def __init__(self, settings: PluginSettings, session: Session, logger: logging.Logger) -> None:
        super().__init__()
        self._settings, self._session, self._logger = settings, session, logger
        self._stopped = threading.Event()
        self.record: DiagnosisRecord | None = None
        self.line, self.problem = '', ''

    def start(self, parameters: ReconstructInput) -> None:
        """Begin to diagnose a scan, in a thread of its own; called in the main thread."""
        self._stopped.clear()
        self._show('Diagnosing ...')
        threading.Thread(target=self._run, args=(parameters,), daemon=True).start()

    def stop(self) -> None:
        """Ask the running diagnosis to end, without a record."""
        self._stopped.set()

    def _run(self, parameters: ReconstructInput) -> None:
        problem, record = '', None
        try:
            record = self._diagnose(HostScan.of(parameters))
        except Interrupted as stopped:
            self._logger.warning('%s', stopped)
        except (PtychoPINNError, OSError) as error:
            problem = say(str(error))
            self._logger.error('%s', problem)
        self._session.foreground(lambda: self._end(record, problem))

    def _diagnose(self, scan: HostScan) -> DiagnosisRecord | None:
        with (
            Scratch(scan.nbytes, self._settings.scratch_folder()) as scratch,
            Worker(scratch.path, should_stop=self._is_stopped) as worker,
        ):
            worker.ask(DiagnoseRequest(scan=hand_over(scan, scratch.path)))
            for message in worker.events():
                if isinstance(message, Progress):
                    line = f'Diagnosing: {message.done:.0f} of at most {message.total:.0f} s of CPU time'
                    self._session.foreground(lambda line=line: self._show(line))  # type: ignore[misc]
                elif isinstance(message, DiagnoseDone):
                    picture = None if message.picture is None else (scratch.path / message.picture).read_bytes()
                    name = str(scan.product.metadata.name)
                    return DiagnosisRecord(name, message.findings, message.trials, message.cpu_seconds, picture)
        return None

    def _is_stopped(self) -> bool:
        return self._stopped.is_set() or self._session.closing()

    def _show(self, line: str) -> None:
        self.line = line
        self.notify_observers()

    def _end(self, record: DiagnosisRecord | None, problem: str) -> None:
        self.record, self.problem, self.line = record, problem, ''
        self._session.changed()
        self.notify_observers()
