"""The checks of a backend as classes, of which a test module subclasses one."""

from __future__ import annotations

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


class Subject:
    """What the checks are about."""

    @pytest.fixture
    def backend(self, conformance_backend: str) -> Backend:
        """The backend under test, loaded anew for every check."""
        return load_backend(conformance_backend)

    @pytest.fixture
    def shipped(self, conformance_runs: Runs) -> Shipped:
        """A model that a process of its own has trained, and the object that another made of it."""
        return conformance_runs.shipped


class InferenceConformance(Subject, InterfaceChecks, NetworkChecks, ResultChecks):
    """The checks of a backend that applies networks."""


class TrainingConformance(Subject, TrainingChecks, InspectingChecks, StoppingChecks, SettingsChecks, PipelineChecks):
    """The checks of a backend that trains; they are left out for one that says it does not."""


class BackendConformance(InferenceConformance, TrainingConformance):
    """All checks of the backend contract; subclass it as `class TestBackends(BackendConformance): ...`."""
