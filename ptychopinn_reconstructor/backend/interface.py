"""The interface between the package and a deep-learning framework: arrays in, arrays out.

See specs/backend_contract.md for what an implementation must fulfill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..events import Emit, ShouldStop, ignore, never

if TYPE_CHECKING:
    from ..physics.arrays import Arrays
    from ..physics.grouping import Split
    from ..physics.prepare import PreparedScan
    from ..physics.simulation.procedural import ProceduralPatterns

Weights = Mapping[str, NDArray[np.float32]]  # neutral names and layout, specs/checkpoint_format.md


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """Everything that a training needs.

    `scans` are prepared and in canonical order, `splits` say which of their patterns to train and validate on.
    `configuration` is complete (N is set). `initial` are weights to start from, None: freshly drawn from the seed.
    `output_dir` receives `checkpoints/` and the metrics. `resume` goes on from `checkpoints/last.ckpt`.
    `procedural` patterns are trained on instead of those of the scans, which then only validate, or beside them
    (data.source mixed).
    `inspect` is called after every epoch with the network as it stands, and must not change the training.
    """

    scans: tuple[PreparedScan, ...]
    splits: tuple[Split, ...]
    config: Config
    output_dir: Path
    initial: Weights | None = None
    resume: bool = False
    emit: Emit = ignore
    should_stop: ShouldStop = never
    procedural: ProceduralPatterns | None = None
    inspect: Callable[[Network], None] | None = None


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What a training leaves: weights in the neutral layout, the probe of each scan, and how it went."""

    weights: Weights
    probes: tuple[NDArray[np.complex64], ...]
    losses: tuple[tuple[int, float], ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False


class Network(Protocol):
    """A network on a device, ready to predict."""

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Object patches (b, n, n) in the probe's frame from the network's input (physics/scaling.NetworkInput)."""


class Backend(Protocol):
    """One deep-learning framework; base.BackendBase has all of it that does not depend on which."""

    @property
    def name(self) -> str:
        """That of the entry point."""

    @property
    def title(self) -> str:
        """The name in INI files and in the GUI."""

    @property
    def stride(self) -> int:
        """N must be a multiple of so many pixels."""

    def devices(self) -> list[str]:
        """The devices that are there, 'cpu' among them."""

    def resolve_device(self, device: str) -> str:
        """The framework's name of a device ('auto' picks the best); DeviceError names those that are there."""

    def check(self, config: Config) -> None:
        """Before anything is written: ConfigError when what the configuration asks for is not installed."""

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages."""

    def fresh_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Freshly drawn weights in the neutral layout."""

    def network(self, config: Config, weights: Weights, device: str) -> Network:
        """A network with these weights; ModelFileError when any is missing, superfluous or of another shape."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train; raises TrainingError on a loss that is not finite."""


@runtime_checkable
class Computes(Protocol):
    """What a backend may offer besides: its devices for the refinement engine, which is stated once, in physics."""

    def arrays(self, device: str) -> Arrays | None:
        """Arrays on a device that `resolve_device` accepts; None where numpy on the CPU is the better choice."""


def arrays_on(backend: Backend, device: str) -> Arrays:
    """Where the refinement engine runs when a job has `device`: there, or else in numpy on the CPU."""
    from ..physics.arrays import NUMPY

    found = backend.arrays(device) if isinstance(backend, Computes) else None
    return NUMPY if found is None else found
