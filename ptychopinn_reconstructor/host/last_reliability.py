"""How far the last reconstruction can be trusted, as its worker has handed it over, for the window to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptychodus.api.observer import Observable

if TYPE_CHECKING:
    from ..reconstruction.diagnostics import Reliability


@dataclass(frozen=True)
class Known:
    """Of which product, the one line that is in its comments too, and everything (`diagnostic_pictures.to_bytes`)."""

    product: str
    line: str
    data: bytes

    def reliability(self) -> Reliability:
        """Everything, to draw it."""
        from ..reconstruction.diagnostic_pictures import from_bytes

        return from_bytes(self.data)


class LastReliability(Observable):
    """What is known of the last reconstruction of the session; observers are notified in the host's main thread."""

    def __init__(self) -> None:
        super().__init__()
        self.known: Known | None = None

    def keep(self, known: Known) -> None:
        """Tell the observers; in the main thread."""
        self.known = known
        self.notify_observers()
