"""Pytest plugin that selects the backends under test; enabled by `pytest_plugins`, imports nothing early."""

from __future__ import annotations

from typing import Any

import pytest

from ..backend import describe_backends, find_entry_points, find_missing_modules, load_backend

SLOW = "slow: trains a network or starts several processes; deselect with -m 'not slow'"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `slow` of checks that start processes or train more than once."""
    config.addinivalue_line('markers', SLOW)


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
