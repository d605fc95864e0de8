"""Pytest plugin that selects the backends under test; enabled by `pytest_plugins`, imports nothing early."""

from __future__ import annotations

from typing import Any

import pytest

from ..backend import describe_backends, find_entry_points, find_missing_modules, load_backend
from .parts import MARKER, skip_left_out

SLOW = "slow: trains a network or starts several processes; deselect with -m 'not slow'"
NEEDS = f'{MARKER}(capability): of the suite for backends, skipped for one that leaves it out'


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers: of checks that start processes or train more than once, and of what may be left out."""
    for marker in (SLOW, NEEDS):
        config.addinivalue_line('markers', marker)


@pytest.hookimpl(tryfirst=True)  # so that the backend stands first in the names of the checks
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a check over the backend that its class names, or over every registered one."""
    if 'conformance_backend' in metafunc.fixturenames:
        named = getattr(metafunc.cls, 'backend_name', '')
        names = [named] if named else sorted(find_entry_points())
        metafunc.parametrize('conformance_backend', names, indirect=True, scope='session')


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the backend's description says that it leaves out (B46): here, so that the reason is reported once."""
    for mark in item.iter_markers(MARKER):
        if (case := getattr(item, 'callspec', None)) is not None:  # else it is no check of a backend
            skip_left_out(str(case.params['conformance_backend']), *mark.args)


@pytest.fixture(scope='session')
def conformance_backend(request: pytest.FixtureRequest) -> str:
    """The entry-point name of the backend under test; skipped with the reason where its framework is not installed."""
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
