"""A grid of runs, from simulated scan to figures, resumable: see `run_study` and `ptychopinn study --help`."""

from .description import Study, list_studies, read_description
from .grid import Run, list_runs
from .study import Outcome, list_states, run_some, run_study

__all__ = [
    'Outcome',
    'Run',
    'Study',
    'list_runs',
    'list_states',
    'list_studies',
    'read_description',
    'run_some',
    'run_study',
]
