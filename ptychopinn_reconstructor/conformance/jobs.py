"""Small scans and short trainings for the checks, and what watches them."""

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
def scan(*, n: int = 32, positions: int = 100, modes: int = 1, photons: float = 1e5, seed: int = 0) -> Scan:
    """A simulated scan with its truth: 100 patterns of 32 x 32 pixels, seconds to train on."""
    return simulate(n=n, positions=positions, modes=modes, photons=photons, seed=seed, step=4.0, jitter=1.0)


def prepared(backend: Backend, *, masked: bool = False, patch_size: int | None = None, **settings: Any) -> PreparedScan:
    """A scan as a backend receives it, with a few bad pixels where it is `masked`."""
    one = scan(**settings)
    if masked:
        one = replace(one, bad_pixels=BAD)
    return prepare_scan(one, mode='absolute', stride=backend.stride, patch_size=patch_size)


def replace_patterns(original: Scan, diffraction: NDArray[Any]) -> PreparedScan:
    """The same scan with other patterns, prepared."""
    return prepare_scan(replace(original, diffraction=diffraction), mode='absolute')


def configuration(backend: Backend, **changes: Any) -> Config:
    """Three short epochs of a narrow network on the CPU; `changes` are 'section__field' values."""
    values: dict[str, dict[str, Any]] = {
        'model': {'N': 32, 'n_filters_scale': 0.5},
        'training': {'nepochs': 3, 'batch_size': 16},
        'refinement': {'passes': 0},
        'execution': {'backend': backend.name, 'device': 'cpu'},
    }
    for key, value in changes.items():
        section, name = key.split('__')
        values.setdefault(section, {})[name] = value
    return Config().merged(values)


def job(
    backend: Backend,
    folder: Path,
    scans: tuple[PreparedScan, ...] = (),
    splits: tuple[Split, ...] = (),
    **changes: Any,
) -> TrainingJob:
    """A training job; `changes` are 'section__field' settings, and fields of TrainingJob."""
    config = configuration(backend, **{key: value for key, value in changes.items() if '__' in key})
    rest = {key: value for key, value in changes.items() if '__' not in key}
    scans = scans or (
        prepare_scan(scan(), mode=config.data.probe_power, stride=backend.stride, patch_size=config.model.patch_size),
    )
    splits = splits or tuple(split_scan(one, config) for one in scans)
    return TrainingJob(scans, splits, config, folder, **rest)


def make_mixed_job(backend: Backend, folder: Path) -> TrainingJob:
    """A job that learns from a scan and from simulated patterns, in which all that can be trained is."""
    trainable: dict[str, Any] = {'training__probe_trainable': True, 'training__intensity_scale_trainable': True}
    asked = job(backend, folder, data__source='mixed', training__realspace_weight=1.0, **trainable)
    return replace(asked, procedural=make_procedural_patterns(asked.scans[0].probe, None, asked.config))


def train(backend: Backend, folder: Path, **changes: Any) -> TrainedModel:
    """Train as `job` says."""
    return backend.train(job(backend, folder, **changes))


def largest_difference(one: Weights, other: Weights) -> float:
    """Largest difference of two sets of weights."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def draw_test_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights of a plausible size, no bias zero, the same for every backend."""
    rng = np.random.default_rng(seed)
    spread = {name: 0.1 if len(shape) == 1 else np.prod(shape[:-1]) ** -0.5 for name, shape in shapes.items()}
    return {name: rng.normal(0, spread[name], shape).astype(np.float32) for name, shape in shapes.items()}


def draw_network_weights(backend: Backend, config: Config, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Such weights for the network that a configuration describes, whatever its layers."""
    return draw_test_weights({name: values.shape for name, values in backend.draw_weights(config, 0).items()}, seed)


@dataclass(eq=False)
class Listener:
    """An `emit` that remembers the events, the threads that they came from, and what lay in a folder at the time."""

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
        """What is known of each epoch, by name."""
        rows = (asdict(event) for event in self.events if isinstance(event, Epoch))
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    @property
    def steps(self) -> int:
        """Events of progress in the training so far."""
        return sum(isinstance(event, Progress) and event.stage == 'train' for event in self.events)


@dataclass(eq=False)
class PredictionRecorder:
    """An `inspect` that remembers what the network predicts: epochs heard so far, thread and patches."""

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
    """A `should_stop` that says yes after so many questions, and counts them."""

    left: int
    asked: int = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.left


class KillAfter(StopAfter):
    """Ends the process, as a scheduler or a lack of memory would, instead of saying yes."""

    def __call__(self) -> bool:
        if super().__call__():
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def run(arguments: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python process in `folder` that sees the installed package, not what lies in that folder."""
    command = [sys.executable, '-P', *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
