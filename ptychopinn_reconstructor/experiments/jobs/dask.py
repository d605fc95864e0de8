"""Jobs on the workers of a Dask cluster that the user has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from distributed import Client

from ...errors import ConfigError, quote
from .interface import Handle
from .task import Task, run_task


class DaskEngine:
    """A client of the cluster's scheduler; a task whose worker has gone is given to another by the scheduler."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def submit(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Hand jobs over to the scheduler."""
        # Not pure: what was done before may have to be done again, as when a run had failed.
        return [self._client.submit(run_task, task, pure=False) for task in tasks]


@contextmanager
def open_dask(address: str) -> Iterator[DaskEngine]:
    """The cluster at an address such as tcp://host:8786; ConfigError where none answers."""
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise ConfigError(f'--dask: no scheduler answers at {quote(address)} ({error}); check the address.') from error
    with client:
        yield DaskEngine(client)
