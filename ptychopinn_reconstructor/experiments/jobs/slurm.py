"""Jobs on a cluster with Slurm, handed over by submitit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from ...errors import ConfigError, quote
from .interface import Handle
from .task import Task

LIMIT = 60  # minutes of a job, unless the options say another
RESTARTS = 10  # after its time is up; each goes on from the last checkpoint


class RequeuedTask:
    """A job that submitit puts into the queue again, as it is, when it is preempted or its time is up."""

    def __call__(self, task: Task) -> str:
        """Do the job."""
        return task.run()

    def checkpoint(self, task: Task) -> Any:
        """What takes its place in the queue: the same, since a job goes on where it was ended."""
        return submitit.helpers.DelayedSubmission(self, task)


class SlurmEngine:
    """submitit's executor: an array of jobs for several handed over at once; its files lie in `folder`."""

    def __init__(self, options: str, folder: Path) -> None:
        values = parse_options(options)
        cluster = str(values.pop('cluster', 'slurm'))
        try:
            self._executor = submitit.AutoExecutor(folder, cluster, slurm_max_num_timeout=RESTARTS)
            self._executor.update_parameters(**{'timeout_min': LIMIT, 'name': 'ptychopinn', **values})
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0].rstrip('.:')
            raise ConfigError(f'--slurm {quote(options)} does not work here: {reason}.') from error

    def submit(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Hand jobs over as one array."""
        with self._executor.batch():
            return [self._executor.submit(RequeuedTask(), task) for task in tasks]


def parse_options(options: str) -> dict[str, Any]:
    """submitit's parameters from 'partition=gpu time=60 --account=x'; words of sbatch get the prefix slurm_.

    What submitit has no parameter for is handed to sbatch as it is. ConfigError where a word is no KEY=VALUE.
    """
    shared = submitit.AutoExecutor._typed_parameters()
    known = submitit.SlurmExecutor._valid_parameters()
    found: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for word in shlex.split(options):
        key, separator, text = word.lstrip('-').partition('=')
        if not separator or not key:
            raise ConfigError(f'--slurm holds {quote(word)}; write KEY=VALUE, for example: partition=gpu time=60.')
        name, value = key.replace('-', '_'), int(text) if text.isdecimal() else text
        if name in shared or name == 'cluster':
            found[name] = value
        elif name in known:
            found[f'slurm_{name}'] = value
        else:
            others[key] = value
    return {**found, 'slurm_additional_parameters': others} if others else found
