"""What a deep-learning framework must offer, and how one is found."""

from .description import BackendDescription
from .interface import Backend, Computes, Network, TrainedModel, TrainingJob, Weights, arrays_on
from .loading import (
    GROUP,
    backend_entry_points,
    describe,
    descriptions,
    installed,
    load_backend,
    missing_modules,
    name_of,
    title_of,
)

__all__ = [
    'GROUP',
    'Backend',
    'BackendDescription',
    'Computes',
    'Network',
    'TrainedModel',
    'TrainingJob',
    'Weights',
    'arrays_on',
    'backend_entry_points',
    'describe',
    'descriptions',
    'installed',
    'load_backend',
    'missing_modules',
    'name_of',
    'title_of',
]
