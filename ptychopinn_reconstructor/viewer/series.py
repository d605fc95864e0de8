"""A result that is read again when it changes, as that of a live run does: the steps that it has gone through."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import PtychoPINNError
from ..io import PRODUCT_NAME, ObjectFile, read_object

MOST_STEPS = 30  # kept in memory: the oldest goes


@dataclass(eq=False)
class Series:
    """The steps of a result, a file or the folder of a product, in the order in which they were written.

    Raises ScanError when it cannot be read at first.
    """

    path: Path
    steps: list[ObjectFile] = field(default_factory=list, init=False)
    _stamp: tuple[int, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.path.is_dir():
            self.path = self.path / PRODUCT_NAME
        self.steps.append(read_object(self.path))
        self._stamp = self._find_stamp()

    def look(self) -> bool:
        """Read it again where it has changed; whether there is another step."""
        stamp = self._find_stamp()
        if stamp is None or stamp == self._stamp:
            return False
        try:
            step = read_object(self.path)
        except PtychoPINNError:  # still being written by another program: the next look finds it
            return False
        self._stamp = stamp
        self.steps = [*self.steps, step][-MOST_STEPS:]
        return True

    def _find_stamp(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino
