"""Jobs shared by several checks, each executed once for a reconstructor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, TrainOutput

from ..releases import export_training_data
from .scans import Simulated, copy_input, simulate_scan, write_layout
from .subject import Instance, Subject
from .watch import Heard, Workplace, hash_arrays, listen, run_in_thread


@dataclass(frozen=True, eq=False)
class Training:
    """Completed training: place, reconstructor, outputs, and changes outside its folder."""

    place: Workplace
    instance: Instance
    heard: Heard[TrainOutput]
    leftovers: dict[str, Any]
    changed_input: bool
    loaded_before: bool

    @property
    def model(self) -> Path:
        """Path where the host expects the model."""
        return self.place.output / f'model{self.instance.reconstructor.get_model_file_extension()}'


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Completed reconstruction: outputs, and changes it made."""

    heard: Heard[ReconstructOutput]
    leftovers: dict[str, Any]
    changed_input: bool

    @property
    def last(self) -> ReconstructOutput:
        """Complete output, the last one."""
        assert self.heard.outputs, 'the reconstruction yields nothing'
        return self.heard.outputs[-1]


@dataclass(eq=False)
class Runs:
    """Shared jobs of one reconstructor, below one folder."""

    subject: Subject
    folder: Path
    scan: Simulated = field(default_factory=simulate_scan)
    modules: frozenset[str] = field(default_factory=lambda: frozenset(sys.modules))  # loaded before the first job
    places: int = 0

    def place(self) -> Workplace:
        """New folders for a job."""
        self.places += 1
        return Workplace(self.folder / str(self.places))

    def new(self, place: Workplace, *, quick: bool = True) -> Instance:
        """New instance without a model."""
        return self.subject.make(place.scratch, quick)

    def form(self) -> str:
        """Form of training data for checks that do not depend on it."""
        forms = self.subject.training_forms
        return 'selected' if 'selected' in forms else min(forms)

    def train(self, form: str, scan: ReconstructInput, *, quick: bool = True) -> Training:
        """Training of a new instance on a scan passed in one of the forms."""
        place, scan = self.place(), copy_input(scan)
        instance = self.new(place, quick=quick)
        reconstructor = instance.reconstructor
        run_in_thread(lambda: PREPARE[form](scan, place.input, instance))
        state, before, loaded = place.state(), hash_arrays(scan), reconstructor.is_model_loaded()
        with place.enter(), instance.training_on(scan):
            heard = listen(reconstructor.get_progress_goal, lambda: reconstructor.train(place.input, place.output))
        return Training(place, instance, heard, place.find_leftovers(state), hash_arrays(scan) != before, loaded)

    def reconstruct(self, place: Workplace, instance: Instance, scan: ReconstructInput) -> Reconstruction:
        """Reconstruction with an instance made for this place that has a model."""
        reconstructor, scan = instance.reconstructor, copy_input(scan)
        state, before = place.state(), hash_arrays(scan)
        with place.enter():
            heard = listen(reconstructor.get_progress_goal, lambda: reconstructor.reconstruct(scan))
        return Reconstruction(heard, place.find_leftovers(state), hash_arrays(scan) != before)

    @cached_property
    def trained(self) -> Training:
        """Training long enough for the object to be recognized."""
        return self.train(self.form(), self.scan.labeled, quick=False)

    @cached_property
    def result(self) -> Reconstruction:
        """Reconstruction of the scan with the trained model."""
        return self.reconstruct(self.trained.place, self.trained.instance, self.scan.unknown)


def _write_pair(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    for name in ('train_data.npz', 'test_data.npz'):
        export_training_data(folder / name, scan)


def _export_scan(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    reconstructor = instance.reconstructor
    suffix = reconstructor.get_training_data_file_filter().rpartition('(*')[2].split(')')[0].split()[0]
    reconstructor.export_training_data(folder / f'scan{suffix}', scan)


def _write_layout(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    write_layout(scan, folder)


def _select_scan(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    """The folder stays empty: the scan is the one that is selected in the host."""


PREPARE: dict[str, Callable[[ReconstructInput, Path, Instance], None]] = {
    'pair': _write_pair,
    'exported': _export_scan,
    'layout': _write_layout,
    'selected': _select_scan,
}
