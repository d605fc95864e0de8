"""Several processes of one scan, as threads: what each asks for meets what the others ask for, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptychopinn_reconstructor.errors import Interrupted
from ptychopinn_reconstructor.physics.processes import Processes

Outcome = TypeVar('Outcome')


class Group:
    """`total` threads that stand for processes; `asked` are the numbers of those that are to stop, `calls` counts."""

    def __init__(self, total: int) -> None:
        self.total, self.asked, self.calls = total, set[int](), 0
        self.barrier = threading.Barrier(total, timeout=120)
        self.told: list[Any] = [None] * total

    def exchange(self, number: int, value: Any) -> list[Any]:
        """The values of all."""
        self.told[number] = value
        self.barrier.wait()
        found = list(self.told)
        self.barrier.wait()
        self.calls += number == 0
        return found

    def run(self, work: Callable[[Processes], Outcome]) -> list[Outcome | Interrupted]:
        """What each of the processes makes of the work, or that it was stopped."""

        def attempt(number: int) -> Outcome | Interrupted:
            try:
                return work(Member(self, number))
            except Interrupted as stopped:
                return stopped
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.total) as pool:
            return [*pool.map(attempt, range(self.total))]


class Member:
    """One of them."""

    def __init__(self, group: Group, number: int) -> None:
        self.group, self.number, self.total = group, number, group.total

    def gather(self, found: Any) -> list[Any]:
        """What each has found; Interrupted where one is to stop."""
        told = self.group.exchange(self.number, (self.number in self.group.asked, found))
        if any(asked for asked, _ in told):
            raise Interrupted
        return [one for _, one in told]

    def add_up(self, values: NDArray[Any]) -> None:
        """The sum takes the place of the values."""
        total = np.sum(self.group.exchange(self.number, values.copy()), axis=0, dtype=values.dtype)
        values[...] = total
