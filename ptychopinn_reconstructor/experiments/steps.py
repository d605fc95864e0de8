"""The steps of an experiment: commands of ours, each in a process of its own, and what each has left.

Every experiment (study, comparison, demo) runs its commands, reads their metrics.json and scores their objects here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..backend import installed, load_backend
from ..errors import InputError
from ..events import Emit, Progress, ShouldStop, ignore, never
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
class Measured:
    """What one reconstruction left: metrics.json, its object, what it cost, and where there is a truth its figures.

    `unscored` says why an object has no figures though there is a truth.
    """

    metrics: Mapping[str, Any]
    object: ObjectFile
    cost: Cost
    image: Comparison | None = None
    unscored: str = ''

    @property
    def notes(self) -> list[str]:
        """What the reconstruction and the comparison with the truth had to say."""
        return [*self.metrics['notes'], *([f'No figures against the truth: {self.unscored}'] if self.unscored else [])]

    def to_json(self) -> dict[str, Any]:
        """device, residual, stages, image (or None) and process, as plain JSON types."""
        return {
            **{key: self.metrics[key] for key in ('device', 'residual', 'stages')},
            'image': None if self.image is None else self.image.to_dict(),
            'process': asdict(self.cost),
        }


def measure(folder: Path, cost: Cost, truth: Truth | None) -> Measured:
    """A reconstruction from its folder; one that cannot be compared with the truth says why."""
    metrics = json.loads((folder / 'metrics.json').read_text(encoding='utf-8'))
    found = read_object(folder / 'product.h5')
    if truth is None:
        return Measured(metrics, found, cost)
    try:
        image = evaluate(found, truth.object, margin=truth.margin, pistons=truth.pistons)
    except InputError as error:
        return Measured(metrics, found, cost, unscored=str(error))
    return Measured(metrics, found, cost, image)


@dataclass(eq=False)
class Steps:
    """Runs the commands of an experiment one after the other and tells how many of `total` parts are done."""

    emit: Emit = ignore
    should_stop: ShouldStop = never
    total: int = 0
    done: int = 0

    def tell(self, stage: str) -> None:
        """Say what is being done."""
        self.emit(Progress(stage, self.done, self.total))

    def run(self, stage: str, what: str, arguments: Sequence[str], folder: Path) -> Cost:
        """Run a command that writes to `folder`; `what` begins the sentence of an error. Raises as `run_command`."""
        self.tell(stage)
        line = [*arguments, '--output-dir', str(folder), '--quiet']
        return run_command(line, what, should_stop=self.should_stop).cost

    def reconstruct(
        self, stage: str, what: str, arguments: Sequence[str], folder: Path, truth: Truth | None
    ) -> Measured:
        """Run a command that reconstructs into `folder`, and measure what it left."""
        return measure(folder, self.run(stage, what, arguments, folder), truth)


def training_facts(model: Path) -> dict[str, Any]:
    """What a model tells of its training: device, epochs, patterns seen, CPU seconds, parameters, versions."""
    manifest = open_model(model).manifest
    return {
        'device': manifest.training.device,
        'epochs': len(manifest.training.losses),
        'patterns_seen': manifest.training.patterns_seen,
        'fit_cpu_seconds': manifest.training.cpu_seconds,
        'parameters': manifest.architecture.parameters,
        'versions': dict(manifest.versions),
    }


def require_backends(names: Iterable[str]) -> None:
    """BackendError, with the sentence that says how to install it, when one is unknown or not installed.

    A backend that is installed is not imported to find out.
    """
    for name in names:
        if name not in installed():
            load_backend(name)
