"""A grid of runs, from simulated scan to figures, resumable: see `run_study` and `ptychopinn study --help`."""

from .description import Study, read_description, study_names
from .grid import Run, runs_of
from .study import Outcome, run_study

__all__ = ['Outcome', 'Run', 'Study', 'read_description', 'run_study', 'runs_of', 'study_names']
