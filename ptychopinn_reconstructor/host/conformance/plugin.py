"""The pytest plugin of the checks of reconstructors. Opted into by `pytest_plugins`; the host is imported later."""

from __future__ import annotations

from typing import Any

import pytest

from ...conformance.plugin import SLOW


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the checks that run jobs."""
    config.addinivalue_line('markers', SLOW)


@pytest.fixture(scope='session')
def conformance_subject() -> Any:
    """The reconstructor under test (subject.Subject); to be overridden, in class, module or session scope."""
    pytest.fail('No reconstructor to check: override the fixture conformance_subject (specs/conformance.md).')


@pytest.fixture(scope='class')
def conformance_jobs(conformance_subject: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Jobs that several checks look at (runs.Runs), each run when it is first asked for."""
    from .runs import Runs

    return Runs(conformance_subject, tmp_path_factory.mktemp('reconstructor'))
