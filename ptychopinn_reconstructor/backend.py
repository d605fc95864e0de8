"""The interface between the package and a deep-learning framework: arrays in, arrays out.

A backend is found by an entry point of the group `ptychopinn_reconstructor.backends` and imported on first use; the
rest of the package names none. See specs/backend_contract.md for what an implementation must fulfill.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .config import BACKEND_NAMES, Config
from .errors import BackendError
from .events import Emit, ShouldStop, ignore, never

if TYPE_CHECKING:
    from .physics.arrays import Arrays
    from .physics.grouping import Split
    from .physics.prepare import PreparedScan
    from .physics.procedural import ProceduralPatterns


GROUP = 'ptychopinn_reconstructor.backends'
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
    """One deep-learning framework."""

    name: str
    title: str
    stride: int

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
        """A network with these weights; BundleError when any is missing, superfluous or of another shape."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train; raises TrainingError on a loss that is not finite."""


@runtime_checkable
class Computes(Protocol):
    """What a backend may offer besides: its devices for the refinement engine, which is stated once, in physics."""

    def arrays(self, device: str) -> Arrays | None:
        """Arrays on a device that `resolve_device` accepts; None where numpy on the CPU is the better choice."""


def arrays_on(backend: Backend, device: str) -> Arrays:
    """Where the refinement engine runs when a job has `device`: there, or else in numpy on the CPU."""
    from .physics.arrays import NUMPY

    found = backend.arrays(device) if isinstance(backend, Computes) else None
    return NUMPY if found is None else found


def backend_entry_points() -> dict[str, EntryPoint]:
    """The registered backends by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


# What to look for, and what to install, before a backend's own modules are imported.
_REQUIRED = {'torch': ('torch', 'lightning'), 'tensorflow': ('tensorflow', 'keras')}


def missing_modules(name: str) -> list[str]:
    """What a backend of ours needs and cannot be imported here; nothing is imported to find out."""
    return [module for module in _REQUIRED.get(name, ()) if not _is_there(module)]


def installed() -> list[str]:
    """The registered backends whose frameworks are there, those that `load_backend` can hope to load, by name."""
    return [name for name in sorted(backend_entry_points()) if not missing_modules(name)]


def load_backend(name: str) -> Backend:
    """The backend registered as `name` ('torch', or as in the GUI 'PyTorch').

    Raises BackendError when it is unknown or its framework is not installed; there is never a fallback.
    """
    key = BACKEND_NAMES.get(name, name)
    title = _title(key)
    missing = missing_modules(key)
    if missing:
        raise BackendError(
            f'{title} backend selected, but {" and ".join(missing)} cannot be imported; '
            f"install it with: pip install 'ptychopinn-reconstructor[{key}]'{_alternatives()}"
        )
    points = backend_entry_points()
    if key not in points:
        raise BackendError(
            f'{title} backend selected, but no backend of that name is registered; '
            f'there are: {", ".join(sorted(points)) or "none"}. Choose one, or reinstall ptychopinn-reconstructor.'
        )
    try:
        factory: Callable[[], Backend] = points[key].load()
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise BackendError(
            f'{title} backend selected, but it cannot be imported ({error}); '
            f"reinstall it with: pip install --force-reinstall '{_package(points[key])}'"
        ) from error
    return factory()


def _package(point: EntryPoint) -> str:
    """What to install for a registered backend, for pip: the package that registers it, and our extra."""
    name = point.dist.name if point.dist else point.module.partition('.')[0]
    return f'{name}[{point.name}]' if point.name in _REQUIRED else name


def _title(key: str) -> str:
    """The name of a backend in INI files and in the GUI."""
    return {name: title for title, name in BACKEND_NAMES.items()}.get(key, key)


def _alternatives() -> str:
    """What else can be chosen here, for a command line, an INI file and a program alike; empty when nothing is."""
    there = installed()
    if not there:
        return ''
    options, titles = (' or '.join(names) for names in ([f'--backend {key}' for key in there], map(_title, there)))
    return f', or choose what is installed: {options} ({titles} in INI files, execution.backend in YAML and Python)'


def _is_there(module: str) -> bool:
    """Whether a module would be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or it is a stand-in without a spec
        return False
