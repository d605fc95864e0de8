"""The options of commands that are lists of jobs: what there is to do, one job of it, and what runs them all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..experiments.jobs import Engine, open_engine
from ..experiments.steps import count_gpus
from .app import decorate_with


@dataclass(frozen=True)
class EngineArguments:
    """Where the jobs of a command run: processes of this machine, Slurm, or a Dask cluster; `bundle` jobs in each."""

    workers: int
    slurm: str | None
    dask: str | None
    bundle: int

    def open(self, log_folder: Path) -> AbstractContextManager[Engine | None]:
        """The engine, None for this process; `log_folder` takes what submitit writes."""
        return open_engine(self.workers, self.slurm, self.dask, log_folder, count_gpus)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--list, --run, --workers, --slurm, --dask and --bundle, handed over as `listed`, `names` and `engine`."""

    @functools.wraps(function)
    def with_engine(*, workers: int, slurm: str | None, dask: str | None, bundle: int, **others: Any) -> Any:
        return function(engine=EngineArguments(workers, slurm, dask, bundle), **others)

    return decorate_with(
        click.option('--list', 'listed', is_flag=True, help='Name the jobs with their states, and stop.'),
        click.option(
            '--run', 'names', metavar='NAME', multiple=True,
            help='Do this job alone, here; may be repeated. Refused where another process is at it.',
        ),
        click.option(
            '--workers', type=click.IntRange(1), default=1, metavar='NUMBER',
            help='Processes of this machine, which divide its cores, a GPU each where there are any [default: 1].',
        ),
        click.option(
            '--slurm', metavar="'KEY=VALUE ...'",
            help='Hand the jobs to Slurm, with options of sbatch: partition=gpu time=60.',
        ),
        click.option('--dask', metavar='ADDRESS', help='Hand the jobs to a Dask cluster: tcp://host:8786.'),
        click.option(
            '--bundle', type=click.IntRange(1), default=1, metavar='NUMBER',
            help='Jobs that a process does one after another, at least [default: 1].',
        ),
    )(with_engine)  # fmt: skip
