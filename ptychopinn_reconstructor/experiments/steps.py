"""Steps of an experiment: training and reconstruction commands in child processes, and their scored results.

Every experiment (study, comparison, demo) runs its commands, reads their metrics.json and scores their objects here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..backend import installed, load_trainer
from ..errors import InputError
from ..events import Emit, Log, Progress, ShouldStop, ignore, never
from ..io import ObjectFile, read_object
from ..model_file.opening import open_model
from ..physics.scoring.metrics import Comparison
from ..reconstruction.evaluate import evaluate
from .processes import Cost, run_command


@dataclass(frozen=True, eq=False)
class Truth:
    """The true object, and how results are compared with it: `margin` and `pistons` as in `evaluate`."""

    object: ObjectFile
    margin: int | None = None
    pistons: bool = False


@dataclass(frozen=True, eq=False)
class ScoredResult:
    """Result of one reconstruction: metrics.json, object, cost and, where there is a truth, image quality.

    `unscored` says why an object has no figures though there is a truth.
    """

    metrics: Mapping[str, Any]
    object: ObjectFile
    cost: Cost
    image: Comparison | None = None
    unscored: str = ''

    @property
    def notes(self) -> list[str]:
        """Notes of the reconstruction, and why it has no image quality where it has none."""
        return [*self.metrics['notes'], *([f'No figures against the truth: {self.unscored}'] if self.unscored else [])]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: device, residual, stages, image (or None) and process."""
        return {
            **{key: self.metrics[key] for key in ('device', 'residual', 'stages')},
            'image': None if self.image is None else self.image.to_dict(),
            'process': asdict(self.cost),
        }


def score_result(folder: Path, cost: Cost, truth: Truth | None) -> ScoredResult:
    """Result read from the folder of a reconstruction and compared with the truth, if there is one."""
    metrics = json.loads((folder / 'metrics.json').read_text(encoding='utf-8'))
    result_object = read_object(folder / 'product.h5')
    if truth is None:
        return ScoredResult(metrics, result_object, cost)
    try:
        image = evaluate(result_object, truth.object, margin=truth.margin, pistons=truth.pistons)
    except InputError as error:
        return ScoredResult(metrics, result_object, cost, unscored=str(error))
    return ScoredResult(metrics, result_object, cost, image)


@dataclass(eq=False)
class Steps:
    """Runs the commands of an experiment in sequence and reports progress, `done` of `total`."""

    emit: Emit = ignore
    should_stop: ShouldStop = never
    total: int = 0
    done: int = 0

    def report_stage(self, stage: str) -> None:
        """Emit the progress with the name of the current stage, and a line for the log."""
        self.emit(Log(f'{stage}, {self.done} of {self.total} done'))
        self.emit(Progress(stage, self.done, self.total))

    def run(self, stage: str, what: str, arguments: Sequence[str], folder: Path) -> Cost:
        """Cost of a command run with `folder` as output; `what` begins an error's sentence. Raises as `run_command`."""
        self.report_stage(stage)
        line = [*arguments, '--output-dir', str(folder), '--quiet']
        return run_command(line, what, should_stop=self.should_stop).cost

    def reconstruct(
        self, stage: str, what: str, arguments: Sequence[str], folder: Path, truth: Truth | None
    ) -> ScoredResult:
        """Scored result of a reconstruction command run with `folder` as output."""
        return score_result(folder, self.run(stage, what, arguments, folder), truth)


def summarize_model(model: Path) -> dict[str, Any]:
    """Training summary of a model file: device, epochs, patterns seen, CPU seconds, parameters, versions."""
    manifest = open_model(model).manifest
    return {
        'device': manifest.training.device,
        'epochs': len(manifest.training.losses),
        'patterns_seen': manifest.training.patterns_seen,
        'fit_cpu_seconds': manifest.training.cpu_seconds,
        'parameters': manifest.architecture.parameters,
        'versions': dict(manifest.versions),
    }


def count_gpus() -> int:
    """Number of GPUs that the first installed backend that trains sees; 0 without one."""
    names = [name for backend in installed(training=True)[:1] for name in load_trainer(backend).devices()]
    return sum(name not in ('cpu', 'mps') for name in names)


def check_backends(names: Iterable[str]) -> None:
    """Raise BackendError, which says how to install it, if a backend is unknown or not installed, or does not train.

    Installed backends are not imported.
    """
    for name in names:
        if name not in installed(training=True):
            load_trainer(name)
