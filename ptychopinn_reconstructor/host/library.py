"""The library 'PtychoPINN' with its two reconstructors, and what connects it with the host's session."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from ptychodus.api.reconstruct import Reconstructor, ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry

from .reconstructor import PtychoPINNReconstructor
from .session import Session
from .settings import PluginSettings

LOGGER = 'ptychopinn_reconstructor'
NAME, NAME_BESIDE_UPSTREAM = 'PtychoPINN', 'PtychoPINN-Plugin'  # the host wants no underscore in it
RECONSTRUCTORS = {'PINN': 'pinn', 'Supervised': 'supervised'}


class PtychoPINNLibrary(ReconstructorLibrary):
    """Both reconstructors over one set of settings; what is logged under its logger reaches the Processing panel."""

    def __init__(self, registry: SettingsRegistry) -> None:
        super().__init__(LOGGER)
        self.session = Session()
        self.settings = PluginSettings(registry, self.get_logger())
        self.reconstructors = [
            PtychoPINNReconstructor(name, model_type, self.settings, self.session, self.get_logger())
            for name, model_type in RECONSTRUCTORS.items()
        ]

    @property
    def name(self) -> str:
        """'PtychoPINN', or another where upstream's own package fills the host's library of that name."""
        return NAME if importlib.util.find_spec('ptycho') is None else NAME_BESIDE_UPSTREAM

    def __iter__(self) -> Iterator[Reconstructor]:
        return iter(self.reconstructors)
