"""The two parts of the suite: what every backend must pass, and what those that train must pass as well."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

Checks = TypeVar('Checks', bound=type[Any])
TRAINING = 'needs_training'  # the marker; `plugin` leaves out what bears it for a backend that does not train


def needs_training(checks: Checks) -> Checks:
    """Mark the checks of a class; marking the class would mark what its subclasses inherit from others too."""
    for name, check in vars(checks).items():
        if name.startswith('test_'):
            pytest.mark.needs_training(check)
    return checks
