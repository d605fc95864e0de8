"""What every training does, whatever it learns from: run the job, keep its metrics, tell how the probe was taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel, TrainingJob
from ..config import Config
from ..errors import Interrupted
from ..events import Emit, Notice, Previews
from ..physics.simulation.procedural import ProceduralPatterns
from ..reconstruction.network_object import inspected
from .metrics_table import NAME, MetricsTable


@dataclass(frozen=True, eq=False)
class Trained:
    """What `train` leaves: the model file, how training went, and whether it was stopped before its end."""

    model: Path
    trained: TrainedModel
    notices: tuple[Notice, ...]


def trained_by(
    backend: Backend, job: TrainingJob, *, preview_seconds: float | None, keep_interrupted: bool
) -> TrainedModel:
    """Run a job with its metrics.csv and previews; Interrupted when there is no model to write, or none wanted."""
    folder = job.output_dir
    with logged(folder, job.config, job.emit, resume=job.resume) as tell:
        job = replace(job, emit=tell)
        if preview_seconds is not None:
            job = inspected(job, Previews(job.emit, preview_seconds))
        trained = backend.train(job)
    if trained.interrupted and not keep_interrupted:
        raise Interrupted(f'Stopped; no model is written, and the last checkpoint in {folder / "checkpoints"} resumes.')
    if not trained.losses:
        raise Interrupted(f'Stopped before the first epoch was complete; no model is written to {folder}.')
    return trained


def procedural_patterns(
    probe: NDArray[np.complex64], bad_pixels: NDArray[np.bool_] | None, config: Config
) -> ProceduralPatterns:
    """Procedural patterns under a probe (modes, N, N) in sqrt(counts), at the doses that the configuration names."""
    spread = config.training.dose_range
    return ProceduralPatterns(probe, (1 / spread, spread), bad_pixels, config.training.seed, config.model.patch_size)


@contextmanager
def logged(folder: Path, config: Config, emit: Emit, *, resume: bool) -> Iterator[Emit]:
    """An `emit` that also writes metrics.csv, unless logger_backend is none."""
    if config.execution.logger_backend == 'none':
        yield emit
        return
    with MetricsTable(folder / NAME, resume=resume) as table:
        yield table.watching(emit)
