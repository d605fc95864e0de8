"""All checks of a backend as one class, which a test module subclasses."""

from __future__ import annotations

import pytest

from ..backend import Backend, load_backend
from .effects import SettingsChecks
from .inspecting import InspectingChecks
from .interface import InterfaceChecks
from .network import NetworkChecks
from .stopping import StoppingChecks
from .training import TrainingChecks
from .whole import PipelineChecks


class BackendConformance(
    InterfaceChecks,
    NetworkChecks,
    TrainingChecks,
    InspectingChecks,
    StoppingChecks,
    SettingsChecks,
    PipelineChecks,
):
    """All checks of the backend contract; subclass it as `class TestBackends(BackendConformance): ...`."""

    @pytest.fixture
    def backend(self, conformance_backend: str) -> Backend:
        """The backend under test, loaded anew for every check."""
        return load_backend(conformance_backend)
