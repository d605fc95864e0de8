"""Pytest plugin that selects the backends under test; enabled by `pytest_plugins`, imports nothing early."""

from __future__ import annotations

from typing import Any

import pytest

from ..backend import describe_backends, find_entry_points, find_missing_modules, load_backend
from .parts import TRAINING

SLOW = "slow: trains a network or starts several processes; deselect with -m 'not slow'"


NEEDS_TRAINING = f'{TRAINING}: of the suite for backends, left out for one that does not train'


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers: of checks that start processes or train more than once, and of the part that trains."""
    for marker in (SLOW, NEEDS_TRAINING):
        config.addinivalue_line('markers', marker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the checks of trainings with a backend that says of itself that it does not train."""
    left = [item for item in items if item.get_closest_marker(TRAINING) and not _trains(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def _trains(item: pytest.Item) -> bool:
    """Whether the backend that a check was collected for trains; True where that fixture is overridden."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, 'callspec') else {}
    described = describe_backends().get(str(parameters.get('conformance_backend')))
    return described is None or described.trains


@pytest.fixture(scope='session', params=sorted(find_entry_points()))
def conformance_backend(request: pytest.FixtureRequest) -> str:
    """The entry-point name of the backend under test: every registered one in turn.

    Skipped with the reason where a framework is not installed. Override it, in session scope, to name yours alone.
    """
    name = str(request.param)
    if missing := find_missing_modules(name):
        pytest.skip(f'the backend {name} needs {" and ".join(missing)}, not installed here')
    return name


@pytest.fixture(
    scope='session', params=sorted({name for one in describe_backends().values() for name in one.architectures})
)
def conformance_architecture(request: pytest.FixtureRequest, conformance_backend: str) -> str:
    """Architecture under test, each that the backend offers in turn."""
    name = str(request.param)
    if name not in describe_backends()[conformance_backend].architectures:
        pytest.skip(f'the backend {conformance_backend} does not offer the architecture {name}')
    return name


@pytest.fixture(scope='session')
def conformance_runs(conformance_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Shared trainings (runs.Runs), each executed on first use."""
    from .runs import Runs

    return Runs(load_backend(conformance_backend), tmp_path_factory.mktemp(conformance_backend))
