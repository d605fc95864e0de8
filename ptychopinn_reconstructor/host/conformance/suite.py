"""All checks of a reconstructor as one class, which a test module subclasses."""

from __future__ import annotations

from .interface import InterfaceChecks
from .models import ModelChecks
from .results import ResultChecks
from .stopping import StoppingChecks
from .training import TrainingChecks


class ReconstructorConformance(InterfaceChecks, TrainingChecks, ResultChecks, ModelChecks, StoppingChecks):
    """Every check of a reconstructor that can be seen from outside; override a method to skip one, with the reason."""
