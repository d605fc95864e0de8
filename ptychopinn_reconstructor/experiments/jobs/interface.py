"""What a list of jobs asks of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .task import Task


class Handle(Protocol):
    """A job that was handed over."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> str:
        """What `Task.run` gave; any exception says that the job was lost with the process that did it."""

    def cancel(self) -> object:
        """Ask for its end."""


class Engine(Protocol):
    """A place where jobs are run."""

    def submit(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Hand jobs over, all at once where the engine has a word for that."""
