"""One job of a list: a command of ours that any machine may do, and do again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import PtychoPINNError
from ...events import ShouldStop, never
from ..processes import KilledError, run_command


@dataclass(frozen=True)
class Task:
    """The command `ptychopinn ARGUMENTS`, done in `folder`, which all machines must see under the same name.

    Done twice it gives what it gives once, and done at two places at once it waits or refuses: it takes a lock.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path

    def run(self, *, should_stop: ShouldStop = never, environment: Mapping[str, str] | None = None) -> str:
        """Sentence of the error that the command ended with, empty where it did not.

        Raises KilledError where a signal ended it: then it is to be done again.
        """
        try:
            run_command(
                self.arguments, f'{self.name}', should_stop=should_stop, folder=self.folder, environment=environment
            )
        except KilledError:
            raise
        except PtychoPINNError as error:
            return str(error)
        return ''


def run_task(task: Task) -> str:
    """`task.run()`, as a function that engines send to other processes."""
    return task.run()
