"""Commands of a comparison: every backend trains a model, then every backend reconstructs with every model."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..model_file.opening import open_model
from ..reconstruction.writing import write_config, write_probe
from ..training.folder import MODEL
from ..training.metrics_table import EpochLosses, read_losses
from .agreement import Cell
from .processes import Cost
from .steps import ScoredResult, Steps, Truth, summarize_model

# Settings that are said to each step on its command line; the rest is the same for all.
OWN = {
    'data': ('train_data_file',),
    'training': ('output_dir',),
    'inference': ('model_path',),
    'execution': ('backend', 'progress'),
}


@dataclass(frozen=True, eq=False)
class Exchange:
    """Scan and settings shared by all trainings and reconstructions of a comparison."""

    scan: str
    folder: Path
    config: Config
    probe: str | None = None
    initial: str | Path | None = None
    overwrite: bool = False

    def run(self, steps: Steps, names: list[str], truth: Truth | None) -> tuple[dict[str, Any], dict[str, Cell]]:
        """Summaries of the trainings by backend, and cells by name."""
        steps.total = len(names) * (1 + len(names) * len(self._count_passes()))
        with tempfile.TemporaryDirectory(prefix='ptychopinn-') as scratch:
            settings = Path(scratch) / 'config.yaml'
            write_config(settings, select_shared_settings(self.config))
            training = {name: self._train(steps, name, settings) for name in names}
            pairs = [(trained, other) for trained in names for other in names]
            return training, {f'{a}_in_{b}': self._reconstruct_pair(steps, a, b, settings, truth) for a, b in pairs}

    def model(self, name: str) -> Path:
        """Path of the model that a backend trains."""
        return self.folder / name / 'model' / MODEL

    def _count_passes(self) -> dict[str, int]:
        """Refinement passes by sub-folder of the result; only 0 (the network alone) where none are asked for."""
        passes = self.config.refinement.passes
        return {'': 0, 'refined': passes} if passes else {'': 0}

    def _build_command(self, command: str, backend: str, settings: Path) -> list[str]:
        return [command, self.scan, '--config', str(settings), '--backend', backend]

    def _train(self, steps: Steps, name: str, settings: Path) -> dict[str, Any]:
        extra = ['--overwrite'] if self.overwrite else []
        extra += [] if self.probe is None else ['--probe', self.probe]
        extra += [] if self.initial is None else ['--from', str(self.initial)]
        line = [*self._build_command('train', name, settings), *extra]
        cost = steps.run(f'train {name}', f'The training with {name}', line, self.model(name).parent)
        for old in ('report.json', 'report.md'):
            (self.folder / old).unlink(missing_ok=True)  # it describes the model that has just been replaced
        steps.done += 1
        return summarize_training(self.folder, self.model(name), cost)

    def _reconstruct_pair(self, steps: Steps, trained: str, other: str, settings: Path, truth: Truth | None) -> Cell:
        line = [*self._build_command('reconstruct', other, settings), '--model', str(self.model(trained))]
        if self.probe is not None:
            file = self.folder / trained / 'probe.npz'
            line += format_probe_arguments(self.probe, self.config, self.model(trained), file)
        what, found = f"The reconstruction of {trained}'s model with {other}", list[ScoredResult]()
        for suffix, passes in self._count_passes().items():
            stage, folder = f'reconstruct {trained} in {other} {suffix}', self.folder / f'{trained}_in_{other}' / suffix
            found.append(steps.reconstruct(stage.rstrip(), what, [*line, '--passes', str(passes)], folder, truth))
            steps.done += 1
        return Cell(trained, other, *found)


def select_shared_settings(config: Config) -> Config:
    """Configuration shared by all steps, without the paths that each gets on its command line."""
    none = {section: dict.fromkeys(name for name in names if name != 'backend') for section, names in OWN.items()}
    return config.merged(none | {'execution': {'progress': False}, 'refinement': {'passes': 0}})


def select_changed_settings(config: Config) -> dict[str, Any]:
    """Settings that differ from their default, by 'section.name', without those in OWN."""
    values, default = config.to_json(), Config().to_json()
    return {
        f'{section}.{name}': value
        for section, fields in values.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if value != default[section][name] and name not in OWN.get(section, ())
    }


def format_probe_arguments(probe: str, config: Config, model: Path, file: Path) -> list[str]:
    """Options for the probe: the given one, or the model's, written to `file`, where the training changed it."""
    training = config.training
    if not (training.refine_probe_first or training.probe_trainable or training.intensity_scale_trainable):
        return ['--probe', probe]
    write_probe(file, open_model(model).probe)
    # A trained scale is part of this probe: rescaling it to the counts would undo it.
    return ['--probe', str(file), *(['--probe-power', 'absolute'] if training.intensity_scale_trainable else [])]


def summarize_training(folder: Path, model: Path, cost: Cost) -> dict[str, Any]:
    """Summary of a training for the report: cost, losses and history, from its model and metrics.csv."""
    facts, summary = summarize_model(model), open_model(model).manifest.training
    history = read_losses(model.parent) or [EpochLosses(int(e), loss, None) for e, loss in summary.losses]
    losses = [row.train_loss for row in history]
    held_out = [row.val_loss for row in history if row.val_loss is not None]
    return {
        'model': model.relative_to(folder).as_posix(),
        **facts,
        'cpu_ms_per_pattern': 1e3 * facts['fit_cpu_seconds'] / max(facts['patterns_seen'], 1),
        'first_loss': losses[0],
        'last_loss': losses[-1],
        'best_loss': min(losses),
        'last_val_loss': held_out[-1] if held_out else None,
        'best_val_loss': min(held_out, default=None),
        'best_epoch': find_best_epoch(history, summary.monitor),
        'history': history,
        'process': asdict(cost),
    }


def find_best_epoch(history: list[EpochLosses], monitor: str) -> int | None:
    """Epoch of the smallest monitored loss, whose weights the model holds; None where that loss was not logged."""
    losses = [(row.val_loss if monitor == 'val_loss' else row.train_loss, row.epoch) for row in history]
    known = [(loss, epoch) for loss, epoch in losses if loss is not None]
    return min(known)[1] if known else None
