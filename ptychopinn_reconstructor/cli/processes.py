"""A command in several processes, as torchrun starts them: the first one tells what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..errors import PtychoPINNError
from ..events import ShouldStop
from ..physics.processes import Processes
from ..reconstruction.processes import open_processes


@contextmanager
def join_processes(should_stop: ShouldStop) -> Iterator[Processes]:
    """The processes of this command; errors of all but the first one, which has them too, are its exit code alone."""
    with open_processes(should_stop) as processes:
        try:
            yield processes
        except PtychoPINNError as error:
            if processes.number and type(error) is not PtychoPINNError:
                raise click.exceptions.Exit(error.exit_code) from error
            raise
