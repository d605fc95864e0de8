"""The checks of a backend as one class, which a test module subclasses."""

from __future__ import annotations

from typing import ClassVar

import pytest

from ..backend import Backend, load_backend
from .effects import SettingsChecks
from .inspecting import InspectingChecks
from .interface import InterfaceChecks
from .network import NetworkChecks
from .results import ResultChecks
from .runs import Runs, Shipped
from .stopping import StoppingChecks
from .training import TrainingChecks
from .whole import PipelineChecks


class BackendConformance(
    InterfaceChecks,
    NetworkChecks,
    ResultChecks,
    TrainingChecks,
    InspectingChecks,
    StoppingChecks,
    SettingsChecks,
    PipelineChecks,
):
    """All checks of the backend contract; subclass it as `class TestBackends(BackendConformance): ...`."""

    backend_name: ClassVar[str] = ''
    """Entry-point name of the backend under test; '': every one that is registered."""

    @pytest.fixture
    def backend(self, conformance_backend: str) -> Backend:
        """The backend under test, loaded anew for every check."""
        return load_backend(conformance_backend)

    @pytest.fixture
    def shipped(self, conformance_runs: Runs) -> Shipped:
        """A model that a process of its own has trained, and the object that another made of it."""
        return conformance_runs.shipped
