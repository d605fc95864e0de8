"""Trainings shared by several checks, each executed once for a backend."""

from __future__ import annotations

import json
import tempfile
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel, describe, installed
from ..config import Config
from ..io import read_product, write_npz
from ..scan import Scan
from . import jobs

EPOCHS = 20  # of the shipped model
WITH_PROBE: dict[str, Any] = {'training__probe_trainable': True, 'training__realspace_weight': 30.0}


@dataclass(frozen=True, eq=False)
class Run:
    """Completed training with its recorded events and files."""

    trained: TrainedModel
    heard: jobs.Listener
    looks: jobs.PredictionRecorder
    asked: int  # how often whether to stop
    folder: Path
    strays: list[Path]  # files in the working folder, which is another
    state_stayed: bool  # NumPy's random state

    @property
    def steps(self) -> int:
        """Number of batches of 16 patterns in an epoch."""
        return int(self.heard.epochs[0]['patterns_seen']) // 16


@dataclass(frozen=True, eq=False)
class Shipped:
    """Model trained by a child process, and the object that another reconstructed with it."""

    scan: Scan
    config: Config
    model: Path
    object: NDArray[np.complex64]


@dataclass(eq=False)
class Runs:
    """Shared trainings of one backend, below one folder."""

    backend: Backend
    folder: Path

    done: dict[str, Run] = field(default_factory=dict)

    @property
    def reference(self) -> Run:
        """Reference run: a few short epochs with every setting at its default."""
        return self.of()

    @property
    def with_probe(self) -> Run:
        """Run with a trained probe and the flatness loss."""
        return self.of(**WITH_PROBE)

    def of(self, **changes: Any) -> Run:
        """Short run with these settings."""
        name = repr(sorted(changes.items()))
        if name not in self.done:
            self.done[name] = self.train(**changes)
        return self.done[name]

    @cached_property
    def everything(self) -> Run:
        """Inspected run without held-out patterns, at a constant learning rate."""
        constant: dict[str, Any] = {'training__scheduler': 'constant', 'training__learning_rate': 1e-3}
        return self.train(look=True, data__validation_fraction=0, **constant)

    @cached_property
    def inspected(self) -> Run:
        """Repeated reference, inspected after every epoch, with other execution settings and another random state."""
        np.random.seed(12)
        return self.train(look=True, **jobs.ELSEWHERE)

    @cached_property
    def accumulated(self) -> Run:
        """Inspected run as `with_probe`, with two batches of half the size for a step."""
        small: dict[str, Any] = {'training__batch_size': 8, 'training__accum_steps': 2}
        return self.train(look=True, **small, **WITH_PROBE)

    @cached_property
    def stopped(self) -> Run:
        """Reference run stopped within its third epoch."""
        return self.train(stop_after=2 * self.reference.steps + 1)

    @cached_property
    def resumed(self) -> Run:
        """Inspected continuation of the stopped run."""
        return self.train(look=True, folder=self.stopped.folder, resume=True)

    def train(self, *, look: bool = False, stop_after: int = 10**9, folder: Path | None = None, **changes: Any) -> Run:
        """Run that is not shared."""
        folder = folder or Path(tempfile.mkdtemp(dir=self.folder))
        (folder / 'checkpoints').mkdir(exist_ok=True)
        heard, stop = jobs.Listener(folder / 'checkpoints'), jobs.StopAfter(stop_after)
        looks = jobs.PredictionRecorder(jobs.make_prepared_scan(self.backend).patterns(np.arange(40)), heard)
        state = repr(np.random.get_state())
        with tempfile.TemporaryDirectory(dir=self.folder) as elsewhere, chdir(elsewhere):
            job = jobs.make_job(self.backend, folder, emit=heard, should_stop=stop, **changes)
            trained = self.backend.train(replace(job, inspect=looks if look else None))
            strays = list(Path(elsewhere).iterdir())
        return Run(trained, heard, looks, stop.asked, folder, strays, repr(np.random.get_state()) == state)

    @property
    def trainer(self) -> str:
        """Name of the backend that trains the shipped model: the one under test, or another where that does not."""
        if describe(self.backend.name).trains:
            return self.backend.name
        trainers = installed(training=True)
        if not trainers:
            pytest.skip('no backend that trains is installed here, and a model is needed')
        return trainers[0]

    @cached_property
    def shipped(self) -> Shipped:
        """Model and object of the command line, each made in a child process from one configuration file."""
        folder = self.folder / 'shipped'
        scan, out = jobs.make_scan(positions=144), folder / 'out'
        write_npz(folder / 'scan.npz', scan)
        write_npz(folder / 'held_out.npz', jobs.make_scan(positions=64, seed=7))
        config = jobs.make_config(
            self.backend,
            model__n_filters_scale=2.0,
            model__N=None,
            training__nepochs=EPOCHS,
            data__train_data_file=str(folder / 'scan.npz'),
            data__test_data_file=str(folder / 'held_out.npz'),
            training__output_dir=str(out),
            inference__model_path=str(out / 'model.safetensors'),
        )
        settings = folder / 'settings.yaml'
        settings.write_text(json.dumps(config.to_json()), encoding='utf-8')  # JSON is YAML
        train = ['train', '--backend', self.trainer]
        for arguments in (train, ['reconstruct', folder / 'scan.npz', '--output-dir', folder / 'result']):
            command = ['-m', 'ptychopinn_reconstructor', *arguments, '--config', settings, '--quiet']
            done = jobs.run(command, folder)
            assert done.returncode == 0, done.stderr
        found = read_product(folder / 'result' / 'product.h5').object
        return Shipped(scan, config.merged({'model': {'N': 32}}), out / 'model.safetensors', found)
