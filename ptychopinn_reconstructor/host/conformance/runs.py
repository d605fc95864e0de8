"""Jobs that several checks look at, so that each is run once a reconstructor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput, TrainOutput

from ..releases import export_training_data
from .scans import Simulated, copy_of, simulated, write_layout
from .subject import Instance, Subject
from .watch import Heard, Workplace, fingerprint, in_thread, listen


@dataclass(frozen=True, eq=False)
class Training:
    """A training: where it ran, the reconstructor after it, what was heard, and what it changed outside its folder."""

    place: Workplace
    instance: Instance
    heard: Heard[TrainOutput]
    left_behind: dict[str, Any]
    changed_input: bool
    loaded_before: bool

    @property
    def model(self) -> Path:
        """Where the host looks for the model."""
        return self.place.output / f'model{self.instance.reconstructor.get_model_file_extension()}'


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A reconstruction: what was heard, and what it changed."""

    heard: Heard[ReconstructOutput]
    left_behind: dict[str, Any]
    changed_input: bool

    @property
    def last(self) -> ReconstructOutput:
        """The complete one."""
        assert self.heard.outputs, 'the reconstruction yields nothing'
        return self.heard.outputs[-1]


@dataclass(eq=False)
class Runs:
    """The shared jobs of one reconstructor, below one folder."""

    subject: Subject
    folder: Path
    scan: Simulated = field(default_factory=simulated)
    modules: frozenset[str] = field(default_factory=lambda: frozenset(sys.modules))  # loaded before the first job
    places: int = 0

    def place(self) -> Workplace:
        """Folders for another job."""
        self.places += 1
        return Workplace(self.folder / str(self.places))

    def new(self, place: Workplace, *, quick: bool = True) -> Instance:
        """A new instance, without a model."""
        return self.subject.make(place.scratch, quick)

    def form(self) -> str:
        """What to train on where any form will do."""
        forms = self.subject.training_forms
        return 'selected' if 'selected' in forms else min(forms)

    def train(self, form: str, scan: ReconstructInput, *, quick: bool = True) -> Training:
        """Train a new instance on a scan handed over in one of the forms."""
        place, scan = self.place(), copy_of(scan)
        instance = self.new(place, quick=quick)
        reconstructor = instance.reconstructor
        in_thread(lambda: PREPARE[form](scan, place.input, instance))
        state, before, loaded = place.state(), fingerprint(scan), reconstructor.is_model_loaded()
        with place.inhabited(), instance.training_on(scan):
            heard = listen(reconstructor.get_progress_goal, lambda: reconstructor.train(place.input, place.output))
        return Training(place, instance, heard, place.left_behind(state), fingerprint(scan) != before, loaded)

    def reconstruct(self, place: Workplace, instance: Instance, scan: ReconstructInput) -> Reconstruction:
        """Reconstruct with an instance that was made for this place and has a model."""
        reconstructor, scan = instance.reconstructor, copy_of(scan)
        state, before = place.state(), fingerprint(scan)
        with place.inhabited():
            heard = listen(reconstructor.get_progress_goal, lambda: reconstructor.reconstruct(scan))
        return Reconstruction(heard, place.left_behind(state), fingerprint(scan) != before)

    @cached_property
    def trained(self) -> Training:
        """Trained long enough for the object to be recognized."""
        return self.train(self.form(), self.scan.labeled, quick=False)

    @cached_property
    def result(self) -> Reconstruction:
        """What that model makes of the scan."""
        return self.reconstruct(self.trained.place, self.trained.instance, self.scan.unknown)


def _pair(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    for name in ('train_data.npz', 'test_data.npz'):
        export_training_data(folder / name, scan)


def _exported(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    reconstructor = instance.reconstructor
    suffix = reconstructor.get_training_data_file_filter().rpartition('(*')[2].split(')')[0].split()[0]
    reconstructor.export_training_data(folder / f'scan{suffix}', scan)


def _layout(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    write_layout(scan, folder)


def _selected(scan: ReconstructInput, folder: Path, instance: Instance) -> None:
    """The folder stays empty: the scan is the one that is selected in the host."""


PREPARE: dict[str, Callable[[ReconstructInput, Path, Instance], None]] = {
    'pair': _pair,
    'exported': _exported,
    'layout': _layout,
    'selected': _selected,
}
