"""Reliability figures of the last reconstruction, as its worker wrote them, for the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptychodus.api.observer import Observable

from ..result import Verdict

if TYPE_CHECKING:
    from ..reconstruction.diagnostics import Reliability


@dataclass(frozen=True)
class ReliabilityRecord:
    """Product name, verdict, summary line (also in its comments) and all figures (`diagnostic_pictures.to_bytes`)."""

    product: str
    verdict: Verdict | None
    line: str
    data: bytes

    def reliability(self) -> Reliability:
        """All figures, decoded."""
        from ..reconstruction.diagnostic_pictures import from_bytes

        return from_bytes(self.data)


class LastReliability(Observable):
    """Record of the session's last reconstruction; observers are notified in the host's main thread."""

    def __init__(self) -> None:
        super().__init__()
        self.record: ReliabilityRecord | None = None

    def update(self, record: ReliabilityRecord) -> None:
        """Replace the record and notify the observers; called in the main thread."""
        self.record = record
        self.notify_observers()
