"""Trainings that several checks look at, so that each is run once a backend."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel
from ..config import Config
from ..io import read_product, write_npz
from ..scan import Scan
from . import jobs

EPOCHS = 20  # of the shipped model


@dataclass(frozen=True, eq=False)
class Run:
    """A training and what was heard of it."""

    trained: TrainedModel
    heard: jobs.Listener
    asked: jobs.StopAfter


@dataclass(frozen=True, eq=False)
class Shipped:
    """A model that a process of its own has trained, and the object that another made of it."""

    scan: Scan
    config: Config
    model: Path
    object: NDArray[np.complex64]


@dataclass(eq=False)
class Runs:
    """The shared trainings of one backend, below one folder."""

    backend: Backend
    folder: Path

    done: dict[str, Run] = field(default_factory=dict)

    @property
    def reference(self) -> Run:
        """Two short epochs with every setting at its default: what other runs are compared with."""
        return self.of()

    @property
    def whole(self) -> Run:
        """Four epochs that nothing disturbs."""
        return self.of(**jobs.LONG)

    def of(self, **changes: Any) -> Run:
        """A short run with these settings."""
        name = repr(sorted(changes.items()))
        if name not in self.done:
            heard, stop = jobs.Listener(), jobs.StopAfter(10**9)
            folder = self.folder / str(len(self.done))
            trained = jobs.train(self.backend, folder, emit=heard, should_stop=stop, **changes)
            self.done[name] = Run(trained, heard, stop)
        return self.done[name]

    @cached_property
    def shipped(self) -> Shipped:
        """Trained and reconstructed by the command line, each in a process of its own, everything named in one file."""
        folder = self.folder / 'shipped'
        scan, out = jobs.scan(positions=144), folder / 'out'
        write_npz(folder / 'scan.npz', scan)
        write_npz(folder / 'held_out.npz', jobs.scan(positions=64, seed=7))
        config = jobs.configuration(
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
        for arguments in (['train'], ['reconstruct', folder / 'scan.npz', '--output-dir', folder / 'result']):
            command = ['-m', 'ptychopinn_reconstructor', *arguments, '--config', settings, '--quiet']
            done = jobs.run(command, folder)
            assert done.returncode == 0, done.stderr
        found = read_product(folder / 'result' / 'product.h5').object
        return Shipped(scan, config.merged({'model': {'N': 32}}), out / 'model.safetensors', found)
