"""What a deep-learning framework must offer, and how one is found."""

from .capabilities import ALL_CAPABILITIES, Capability
from .description import BackendDescription
from .interface import (
    ArrayBackend,
    Backend,
    GraphBackend,
    Network,
    ProcessBackend,
    TrainedModel,
    TrainingJob,
    Weights,
    select_arrays,
)
from .loading import (
    GROUP,
    check_capability,
    check_requests,
    describe,
    describe_backends,
    find_entry_points,
    find_missing_modules,
    installed,
    load_backend,
    load_trainer,
    load_trainer_for,
    resolve_name,
    resolve_title,
)
from .precision import check_precision

__all__ = [
    'ALL_CAPABILITIES',
    'GROUP',
    'ArrayBackend',
    'Backend',
    'BackendDescription',
    'Capability',
    'GraphBackend',
    'Network',
    'ProcessBackend',
    'TrainedModel',
    'TrainingJob',
    'Weights',
    'check_capability',
    'check_precision',
    'check_requests',
    'describe',
    'describe_backends',
    'find_entry_points',
    'find_missing_modules',
    'installed',
    'load_backend',
    'load_trainer',
    'load_trainer_for',
    'resolve_name',
    'resolve_title',
    'select_arrays',
]
