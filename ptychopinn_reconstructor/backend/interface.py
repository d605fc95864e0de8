"""Interface between the package and a deep-learning framework: arrays in, arrays out.

See specs/backend_contract.md for what an implementation must fulfill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
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
    from ..physics.processes import Processes
    from ..physics.simulation.procedural import ProceduralPatterns

Weights = Mapping[str, NDArray[np.float32]]  # neutral names and layout, specs/checkpoint_format.md


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """Inputs of a training.

    `scans` are prepared and in canonical order, `splits` say which of their patterns to train and validate on.
    `configuration` is complete (N is set). `initial` are weights to start from, None: freshly drawn from the seed.
    `output_dir` receives `checkpoints/` and the metrics. `resume` goes on from `checkpoints/last.ckpt`.
    `procedural` patterns are trained on instead of those of the scans, which then only validate, or beside them
    (data.source mixed).
    `cpu_seconds` were spent on the preparation; max_cpu_seconds includes them.
    `inspect` is called after every epoch with the network as it stands, and must not change the training.
    `rank` of `ranks` processes that train one network together does its part of each step; the first one writes.
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
    cpu_seconds: float = 0.0
    inspect: Callable[[Network], None] | None = None
    rank: int = 0
    ranks: int = 1


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """Outcome of a training: weights in the neutral layout, probe of each scan, losses and summary."""

    weights: Weights
    probes: tuple[NDArray[np.complex64], ...]
    losses: tuple[tuple[int, float], ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    interrupted: bool = False


class Network(Protocol):
    """Network on a device, ready to predict."""

    def predict(self, root4: NDArray[np.float32], backprojection: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Object patches (b, n, n) in the probe's frame from the network's input (physics/scaling.NetworkInput).

        Several threads may ask at once: each call takes one thread of the CPU.
        """


class Backend(Protocol):
    """Deep-learning framework; base.BackendBase implements all that does not depend on which."""

    @property
    def name(self) -> str:
        """Name of the entry point."""

    @property
    def title(self) -> str:
        """Name in INI files and in the GUI."""

    @property
    def stride(self) -> int:
        """Number of pixels of which N must be a multiple."""

    def devices(self) -> list[str]:
        """Names of the available devices, 'cpu' among them."""

    def resolve_device(self, device: str) -> str:
        """Framework's name of a device ('auto' is the best); DeviceError lists the available ones."""

    def check(self, config: Config) -> None:
        """Raise ConfigError, before anything is written, if the configuration asks for what is not installed."""

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages, by name."""

    def draw_weights(self, config: Config, seed: int) -> dict[str, NDArray[np.float32]]:
        """Randomly drawn weights in the neutral layout."""

    def network(self, config: Config, weights: Weights, device: str) -> Network:
        """Network with these weights; ModelFileError if any is missing, superfluous or ill-shaped."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Trained model; raises TrainingError on a loss that is not finite, BackendError where it does not train."""


@runtime_checkable
class ArrayBackend(Protocol):
    """Backend that also runs the refinement engine, which is stated once in physics, on its devices."""

    def arrays(self, device: str, threads: int = 1) -> Arrays | None:
        """Array operations on a device that `resolve_device` accepts, on a CPU by so many threads.

        None where numpy and scipy on the CPU are faster.
        """


@runtime_checkable
class GraphBackend(Protocol):
    """Backend whose networks are ONNX graphs, which other programs can run."""

    def encode_network(self, config: Config, weights: Weights) -> bytes:
        """ONNX file of the network; ModelFileError if any weight is missing, superfluous or ill-shaped."""

    def run_network(self, file: bytes) -> Network:
        """Network of an ONNX file, as it stands there, on the CPU."""


@runtime_checkable
class ProcessBackend(Protocol):
    """Backend whose framework connects the processes that its launcher has started."""

    def join_processes(self, should_stop: ShouldStop) -> AbstractContextManager[Processes]:
        """These processes, connected inside; PtychoPINNError in those that are left where one has ended."""


def select_arrays(backend: Backend, device: str, threads: int = 1, processes: Processes | None = None) -> Arrays:
    """Array operations for the refinement engine on `device`; numpy, on so many threads, where the backend has none.

    `processes` share the work with this one.
    """
    from ..physics.arrays import NumpyArrays
    from ..physics.processes import ALONE

    found = backend.arrays(device, threads) if isinstance(backend, ArrayBackend) else None
    processes = processes or ALONE
    if found is None:
        return NumpyArrays(threads, processes)
    found.processes = processes
    return found
