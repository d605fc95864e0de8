"""What a deep-learning framework must offer, and how one is found."""

from .interface import Backend, Computes, Network, TrainedModel, TrainingJob, Weights, arrays_on
from .loading import GROUP, backend_entry_points, installed, load_backend, missing_modules

__all__ = [
    'GROUP',
    'Backend',
    'Computes',
    'Network',
    'TrainedModel',
    'TrainingJob',
    'Weights',
    'arrays_on',
    'backend_entry_points',
    'installed',
    'load_backend',
    'missing_modules',
]
