"""One scan on several processes: each does its part of the patterns, and all of them have what came of it.

All run the same program on the same scan, and each holds the whole canvas. What is done for patterns is divided: their
residuals, slopes and overlaps are gathered in the order of the patterns, bitwise those of one process; sums on the
canvas are added up over the processes, the same in each, and but for rounding those of one. What is left is done by
each for itself, with the same outcome. `Processes` is what the outermost layer connects them by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

Found = TypeVar('Found')
Block = TypeVar('Block')

ROUND = 64  # blocks that a process does before all tell each other what they have found, and whether to stop


class Processes(Protocol):
    """This process, `number` from 0 of `total` that work on one scan; all must ask for the same in the same order."""

    number: int
    total: int

    def gather(self, found: Found) -> list[Found]:
        """What each process has found, in their order; Interrupted, in all of them, where one was asked to stop."""

    def add_up(self, values: NDArray[Any]) -> None:
        """Replace numbers by their sum over the processes, bitwise the same in each."""


class OneProcess:
    """No others."""

    number = 0
    total = 1

    def gather(self, found: Found) -> list[Found]:
        """What this process has found."""
        return [found]

    def add_up(self, values: NDArray[Any]) -> None:
        """Leave the numbers as they are."""


ALONE: Processes = OneProcess()


def own_part(count: int, processes: Processes) -> range:
    """Numbers of those of `count` things in a row that this process does; parts differ by at most one."""
    ends = [count * number // processes.total for number in (processes.number, processes.number + 1)]
    return range(*ends)


def own_blocks(blocks: Sequence[Block], processes: Processes) -> Sequence[Block]:
    """Those of blocks in a row that this process does."""
    part = own_part(len(blocks), processes)
    return blocks[part.start : part.stop]
