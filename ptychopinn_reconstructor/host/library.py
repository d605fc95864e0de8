"""The library 'PtychoPINN' with its two reconstructors, and what connects it with the host's session."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ptychodus.api.object import Object
from ptychodus.api.reconstruct import ReconstructInput, Reconstructor, ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry

from ..events import ShouldStop, never
from .last_trust import LastTrust
from .reconstructor import PtychoPINNReconstructor
from .scans import HostScan
from .settings import PluginSettings

LOGGER = 'ptychopinn_reconstructor'
NAME, NAME_BESIDE_UPSTREAM = 'PtychoPINN', 'PtychoPINN-Plugin'  # the host wants no underscore in it
RECONSTRUCTORS = {'PINN': 'pinn', 'Supervised': 'supervised'}


class TrainingView(Protocol):
    """Where a training shows its object and its losses."""

    def show(
        self, scan: HostScan, preview: Object | None, losses: list[tuple[int, float]], *, last: bool = False
    ) -> None:
        """Show the losses and, if there is one, the object of an epoch; called from the host's worker thread.

        What is not the last may be left out.
        """


@dataclass
class Session:
    """What a reconstructor may ask of the host; without a host it runs to its end and shows nothing.

    `closing` says whether the host is about to end, `foreground` runs a function in its main thread. There, `changed`
    lets it look anew for a model and for messages, and `select` shows the product of an index in its window. While a
    training is queued or runs, `is_training` is set; while it runs, `selected` is the scan that was selected in the
    host, and `training` shows how it goes. `trust` is what is known of the last reconstruction.
    """

    should_stop: ShouldStop = never
    closing: ShouldStop = never
    foreground: Callable[[Callable[[], None]], None] = lambda task: task()
    changed: Callable[[], None] = lambda: None
    select: Callable[[int], None] = lambda index: None
    training: TrainingView | None = None
    selected: ReconstructInput | None = None
    is_training: bool = False
    trust: LastTrust = field(default_factory=LastTrust)

    @contextmanager
    def training_on(self, selected: ReconstructInput) -> Iterator[None]:
        """While the host's task of a training runs."""
        self.is_training, self.selected = True, selected
        try:
            yield
        finally:
            self.is_training, self.selected, self.training = False, None, None


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
