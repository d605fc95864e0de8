"""Small scans, short trainings and recording callbacks for the checks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, Network, TrainedModel, TrainingJob, Weights
from ..config import Config
from ..events import Epoch, Event, Progress
from ..physics.grouping import Split
from ..physics.prepare import Patterns, PreparedScan, prepare_scan
from ..physics.simulation.simulate import simulate
from ..scan import Scan
from ..training.run import make_procedural_patterns
from ..training.setup import split_scan
from .parts import skip_requests

STILL = 1e-30  # a learning rate at which no weight moves
BAD = np.zeros((32, 32), dtype=bool)
BAD[3:5, 10:20] = BAD[16, 16] = True
ELSEWHERE: dict[str, Any] = {  # settings of execution that change speed and place only, none at its default
    'execution__num_workers': 2,
    'execution__pin_memory': True,
    'execution__logger_backend': 'none',
    'execution__progress': False,
}


@cache
def make_scan(*, n: int = 32, positions: int = 100, modes: int = 1, photons: float = 1e5, seed: int = 0) -> Scan:
    """Simulated scan with its truth: 100 patterns of 32 x 32 pixels, so that a training takes seconds."""
    return simulate(n=n, positions=positions, modes=modes, photons=photons, seed=seed, step=4.0, jitter=1.0)


def make_prepared_scan(
    backend: Backend, *, masked: bool = False, patch_size: int | None = None, **settings: Any
) -> PreparedScan:
    """Simulated scan prepared for a backend, with a few bad pixels if `masked`."""
    one = make_scan(**settings)
    if masked:
        one = replace(one, bad_pixels=BAD)
    return prepare_scan(one, mode='absolute', stride=backend.stride, patch_size=patch_size)


def replace_patterns(original: Scan, diffraction: NDArray[Any]) -> PreparedScan:
    """Prepared scan with its patterns replaced."""
    return prepare_scan(replace(original, diffraction=diffraction), mode='absolute')


def make_config(backend: Backend, **changes: Any) -> Config:
    """Configuration of three short epochs of a narrow network on the CPU; `changes` are 'section__field' values.

    A check that asks for what the backend leaves out is skipped here.
    """
    values: dict[str, dict[str, Any]] = {
        'model': {'N': 32, 'n_filters_scale': 0.5},
        'training': {'nepochs': 3, 'batch_size': 16},
        'refinement': {'passes': 0},
        'execution': {'backend': backend.name, 'device': 'cpu'},
    }
    for key, value in changes.items():
        section, name = key.split('__')
        values.setdefault(section, {})[name] = value
    config = Config().merged(values)
    skip_requests(backend.name, config)
    return config


def make_job(
    backend: Backend,
    folder: Path,
    scans: tuple[PreparedScan, ...] = (),
    splits: tuple[Split, ...] = (),
    **changes: Any,
) -> TrainingJob:
    """Training job; `changes` are 'section__field' settings and fields of TrainingJob."""
    config = make_config(backend, **{key: value for key, value in changes.items() if '__' in key})
    rest = {key: value for key, value in changes.items() if '__' not in key}
    scans = scans or (
        prepare_scan(
            make_scan(), mode=config.data.probe_power, stride=backend.stride, patch_size=config.model.patch_size
        ),
    )
    splits = splits or tuple(split_scan(one, config) for one in scans)
    return TrainingJob(scans, splits, config, folder, **rest)


def make_mixed_job(backend: Backend, folder: Path) -> TrainingJob:
    """Training job on a scan and on simulated patterns, with all trainable parameters enabled."""
    trainable: dict[str, Any] = {'training__probe_trainable': True, 'training__intensity_scale_trainable': True}
    asked = make_job(backend, folder, data__source='mixed', training__realspace_weight=1.0, **trainable)
    return replace(asked, procedural=make_procedural_patterns(asked.scans[0].probe, None, asked.config))


def train(backend: Backend, folder: Path, **changes: Any) -> TrainedModel:
    """Train as `make_job` says."""
    return backend.train(make_job(backend, folder, **changes))


def largest_difference(one: Weights, other: Weights) -> float:
    """Largest absolute difference of two sets of weights."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def draw_test_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights of plausible size without a zero bias, equal for every backend."""
    rng = np.random.default_rng(seed)
    spread = {name: 0.1 if len(shape) == 1 else np.prod(shape[:-1]) ** -0.5 for name, shape in shapes.items()}
    return {name: rng.normal(0, spread[name], shape).astype(np.float32) for name, shape in shapes.items()}


def draw_network_weights(backend: Backend, config: Config, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights of `draw_test_weights` for the network that a configuration describes."""
    return draw_test_weights({name: values.shape for name, values in backend.draw_weights(config, 0).items()}, seed)


@dataclass(eq=False)
class Listener:
    """Callback `emit` that records events, their threads, and the files in a folder at the time."""

    folder: Path | None = None
    events: list[Event] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    files: list[set[str]] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.threads.add(threading.get_ident())
        self.files.append({path.stem for path in self.folder.iterdir()} if self.folder else set())

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """Fields of each epoch event, by name."""
        rows = (asdict(event) for event in self.events if isinstance(event, Epoch))
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    @property
    def steps(self) -> int:
        """Number of progress events of the training."""
        return sum(isinstance(event, Progress) and event.stage == 'train' for event in self.events)


@dataclass(eq=False)
class PredictionRecorder:
    """Callback `inspect` that records the predicted patches with epoch count and thread."""

    data: Patterns
    heard: Listener
    seen: list[tuple[int, int, NDArray[np.complex64]]] = field(default_factory=list)

    def __call__(self, network: Network) -> None:
        whole = network.predict(self.data.root4, self.data.backprojection)
        for size in (1, 33, 40):
            part = network.predict(self.data.root4[:size], self.data.backprojection[:size])
        assert np.array_equal(whole, part)
        self.seen.append((len(self.heard.epochs), threading.get_ident(), whole))


@dataclass(eq=False)
class StopAfter:
    """Callback `should_stop` that returns True after a number of calls, and counts them."""

    left: int
    asked: int = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.left


class KillAfter(StopAfter):
    """Callback `should_stop` that kills the process, as a scheduler or a lack of memory would."""

    def __call__(self) -> bool:
        if super().__call__():
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def run(arguments: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Completed Python process in `folder` that imports the installed package, not files of that folder."""
    command = [sys.executable, '-P', *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
