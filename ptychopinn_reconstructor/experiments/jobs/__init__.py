"""Many commands on many machines, by engines that exist: processes here, Slurm through submitit, a Dask cluster."""

from .engines import open_engine
from .interface import Engine, Handle
from .run import run_tasks
from .task import Task

__all__ = ['Engine', 'Handle', 'Task', 'open_engine', 'run_tasks']
