"""Pytest plugin of the checks of reconstructors; enabled by `pytest_plugins`, imports the host later."""

from __future__ import annotations

from typing import Any

import pytest

from ...conformance.plugin import SLOW


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `slow` of checks that run jobs."""
    config.addinivalue_line('markers', SLOW)


@pytest.fixture(scope='session')
def conformance_subject() -> Any:
    """Reconstructor under test (subject.Subject); override it in class, module or session scope."""
    pytest.fail('No reconstructor to check: override the fixture conformance_subject (specs/conformance.md).')


@pytest.fixture(scope='class')
def conformance_jobs(conformance_subject: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Shared jobs (runs.Runs), each executed on first use."""
    from .runs import Runs

    return Runs(conformance_subject, tmp_path_factory.mktemp('reconstructor'))
