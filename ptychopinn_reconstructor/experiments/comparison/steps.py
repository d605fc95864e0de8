"""The commands of a comparison, one after the other, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...config import Config
from ...events import Emit, Progress, ShouldStop, ignore, never
from ...io import ObjectFile
from ...model_file.opening import open_model
from ...reconstruction.writing import write_config, write_probe
from ..processes import Cost, run_command
from .figures import Cell, Scored, read_cell, training_values


@dataclass(frozen=True, eq=False)
class Steps:
    """The commands of a comparison, one after the other."""

    scan: str
    folder: Path
    config: Config
    names: list[str]
    probe: str | None = None
    initial: str | Path | None = None
    overwrite: bool = False
    emit: Emit = ignore
    should_stop: ShouldStop = never
    done: list[str] = field(default_factory=list)

    def run(self, truth: ObjectFile | None, margin: int) -> tuple[dict[str, Any], dict[str, Cell]]:
        """Figures of the trainings by backend, and the cells by name."""
        training: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(prefix='ptychopinn-') as scratch:
            settings = Path(scratch) / 'config.yaml'
            write_config(settings, shared_settings(self.config))
            for name in self.names:
                training[name] = training_values(self.folder, name, self._train(name, settings))
                for old in () if len(training) > 1 else ('report.json', 'report.md'):
                    (self.folder / old).unlink(missing_ok=True)  # it tells of the model that has just been replaced
            return training, {
                f'{trained}_in_{other}': self._cell(trained, other, settings, truth, margin)
                for trained in self.names
                for other in self.names
            }

    def _train(self, name: str, settings: Path) -> Cost:
        extra = ['--overwrite'] if self.overwrite else []
        extra += [] if self.probe is None else ['--probe', self.probe]
        extra += [] if self.initial is None else ['--from', str(self.initial)]
        folder = self.folder / name / 'model'
        return self._command('train', f'train {name}', f'The training with {name}', name, folder, settings, extra)

    def _cell(self, trained: str, other: str, settings: Path, truth: ObjectFile | None, margin: int) -> Cell:
        model = self.folder / trained / 'model' / 'model.safetensors'
        arguments = ['--model', str(model)]
        if self.probe is not None:
            arguments += probe_arguments(self.probe, self.config, model, self.folder / trained / 'probe.npz')
        scored: list[Scored] = []
        passes = self.config.refinement.passes  # None: not asked for, and the comparison is of the networks
        for suffix, count in (('', 0), ('refined', passes)) if passes else (('', 0),):
            folder = self.folder / f'{trained}_in_{other}' / suffix
            what = f"The reconstruction of {trained}'s model with {other}"
            title = f'reconstruct {trained} in {other} {suffix}'.rstrip()
            extra = [*arguments, '--passes', str(count)]
            cost = self._command('reconstruct', title, what, other, folder, settings, extra)
            scored.append(read_cell(folder, cost, truth, margin))
        return Cell(trained, other, scored[0], scored[1] if passes else None)

    def _command(
        self, command: str, title: str, what: str, backend: str, folder: Path, settings: Path, extra: Sequence[str]
    ) -> Cost:
        total = len(self.names) * (1 + len(self.names) * (2 if self.config.refinement.passes else 1))
        self.emit(Progress(title, len(self.done), total))
        arguments = [command, self.scan, '--config', str(settings), '--backend', backend, '--output-dir', str(folder)]
        finished = run_command([*arguments, *extra, '--quiet'], what, should_stop=self.should_stop)
        self.done.append(title)
        return finished.cost


def shared_settings(config: Config) -> Config:
    """The settings that every step gets; what names files or places is said to each on its command line."""
    return config.merged(
        {
            'data': {'train_data_file': None},
            'training': {'output_dir': None},
            'inference': {'model_path': None},
            'refinement': {'passes': 0},
            'execution': {'progress': False},
        }
    )


def probe_arguments(probe: str, config: Config, model: Path, file: Path) -> list[str]:
    """--probe for a reconstruction: the one given, or where the training has changed it the model's, put in `file`."""
    training = config.training
    if not (training.refine_probe_first or training.probe_trainable or training.intensity_scale_trainable):
        return ['--probe', probe]
    write_probe(file, open_model(model).probe)
    # A trained scale is part of this probe: rescaling it to the counts would undo it.
    return ['--probe', str(file), *(['--probe-power', 'absolute'] if training.intensity_scale_trainable else [])]
