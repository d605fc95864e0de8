"""Common sequence of every training: check, prepare, train, choose the better model, write it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backend import Backend, TrainedModel, TrainingJob, check_precision, load_trainer_for
from ..config import Config
from ..display.document import Items, Text, format_fragment
from ..errors import Interrupted
from ..events import Done, Emit, Log, Notice, Previews, ShouldStop, Started, ignore, log_notices, with_logging
from ..io.atomic import remove_parts
from ..io.locks import FolderLock
from ..io.plain_json import write_json
from ..model_file.opening import Model, open_model, open_start_model
from ..model_file.trained import write_trained_model
from ..model_file.training_range import TrainingRange
from ..physics.grouping import Split
from ..physics.prepare import PreparedScan
from ..physics.simulation.procedural import ProceduralPatterns
from ..reconstruction.memory import foresee_memory
from ..reconstruction.writing import write_config
from .fine_tuning import keep_better_model
from .folder import CHECKPOINTS, CONFIG, LAST, METRICS, MODEL, copy_start_model, find_start_model
from .instrument import INSTRUMENT
from .metrics_table import NAME, MetricsTable
from .previews import add_previews
from .ranks import ALONE, Ranks, find_ranks
from .verdict import TrainingVerdict, judge_training


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of a training: path of the model, the trained model, notices for the user, and whether it can be used.

    `verdict` is None where the training was stopped.
    """

    model: Path
    trained: TrainedModel
    notices: tuple[Notice, ...]
    verdict: TrainingVerdict | None

    def __repr__(self) -> str:
        judged = 'stopped' if self.verdict is None else f'{self.verdict.fit}: {self.verdict.word}'
        return f'TrainingResult({self.model}, {judged})'

    def _repr_html_(self) -> str:
        judged = [] if self.verdict is None else [Text(self.verdict.sentence, self.verdict.word)]
        told = Items([notice.text for notice in self.notices])
        return format_fragment(repr(self), [*judged, told]) + open_model(self.model)._repr_html_()


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """Running training: backend and device, output folder, and the model that it starts from."""

    backend: Backend
    device: str
    folder: Path
    start: Model | None
    resume: bool
    preview_seconds: float | None
    emit: Emit
    should_stop: ShouldStop
    ranks: Ranks = ALONE


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a training learns from, and what its model remembers of it.

    `scans`, `splits` and `procedural` are those of TrainingJob; `guess`, `others`, `sources` and `trained_for` those of
    `write_trained_model`. `measured`: the scans are not simulated, so that the model can be compared with its start.
    """

    scans: tuple[PreparedScan, ...]
    splits: tuple[Split, ...]
    notices: tuple[Notice, ...]
    sources: Sequence[str]
    trained_for: TrainingRange
    procedural: ProceduralPatterns | None = None
    guess: NDArray[np.complex64] | None = None
    others: Sequence[NDArray[np.complex64]] = ()
    measured: bool = True


class TrainingPlan(Protocol):
    """Kind of training, with its checked, complete configuration and the preparation of its data."""

    @property
    def job(self) -> Literal['train', 'pretrain']:
        """Name in the event `started`."""

    @property
    def config(self) -> Config:
        """Complete configuration, N included."""

    def prepare(self, run: TrainingRun) -> TrainingData:
        """Training data for the backend of `run`; files that belong to them are written to its folder."""


def run_training(
    plan: TrainingPlan,
    output_dir: str | Path,
    *,
    initial: str | Path | None,
    resume: bool,
    keep_interrupted: bool,
    preview_seconds: float | None,
    emit: Emit,
    should_stop: ShouldStop,
) -> TrainingResult:
    """Result of the planned training; model and checkpoints go to `output_dir`. Options and errors as in `train`."""
    emit = with_logging(emit)
    config, backend = plan.config, load_trainer_for(plan.config, resume=resume)
    backend.check(config)
    ranks = find_ranks(config.execution)
    device = _choose_device(backend, config, ranks)
    check_precision(config.execution, device)
    path = find_start_model(Path(output_dir), initial, resume=resume)
    start = None if path is None else open_start_model(path, config)
    if ranks.number:
        run = TrainingRun(backend, device, Path(output_dir), start, resume, None, ignore, should_stop, ranks)
        return _take_part(plan, run)
    with FolderLock(output_dir, 'training') as lock:
        remove_parts(lock.folder / CHECKPOINTS)
        emit(Started(plan.job, device, backend.title))
        run = TrainingRun(backend, device, lock.folder, start, resume, preview_seconds, emit, should_stop, ranks)
        return _run_locked(plan, run, path, keep_interrupted=keep_interrupted)


def _choose_device(backend: Backend, config: Config, ranks: Ranks) -> str:
    """Device of this process; of several on a machine each has a GPU of its own, where there are any."""
    device = backend.resolve_device(config.execution.device)
    kind, separator, _ = device.partition(':')
    return backend.resolve_device(f'{kind}:{ranks.local}') if separator and ranks.total > 1 else device


def _take_part(plan: TrainingPlan, run: TrainingRun) -> TrainingResult:
    """Outcome of a process that trains with the first one, which alone writes and tells.

    It prepares the same data by itself: that takes no longer than waiting for them.
    """
    with TemporaryDirectory(prefix='ptychopinn-rank-') as scratch:
        if run.resume and (run.folder / INSTRUMENT).exists():
            shutil.copyfile(run.folder / INSTRUMENT, Path(scratch) / INSTRUMENT)
        begin = time.process_time()
        data = plan.prepare(replace(run, folder=Path(scratch)))
        job = make_job(run, plan.config, data, time.process_time() - begin, run.emit)
        return TrainingResult(run.folder / MODEL, run.backend.train(job), (), None)


def _run_locked(plan: TrainingPlan, run: TrainingRun, path: Path | None, *, keep_interrupted: bool) -> TrainingResult:
    """Result of a training whose folder is locked; `path` is that of the model it starts from."""
    config, backend, folder, start, emit = plan.config, run.backend, run.folder, run.start, run.emit
    begin = time.process_time()
    data = plan.prepare(run)
    prepared = time.process_time() - begin
    for scan in data.scans:
        foresee_memory(scan)
    log_notices(emit, data.notices)
    # Only now, when the data are known to be good, does the folder say how to resume.
    copy_start_model(folder, path)
    write_config(folder / CONFIG, config)
    trained, notices = train_network(run, config, data, prepared, keep_interrupted=keep_interrupted), data.notices
    if start is not None and data.measured:
        trained, kept = keep_better_model(trained, start.weights, backend, config, data.scans[0], emit=emit)
        notices = (*notices, kept)
    model = write_trained_model(
        folder / MODEL,
        backend,
        config,
        data.scans[0],
        trained,
        guess=data.guess,
        others=data.others,
        sources=data.sources,
        trained_for=data.trained_for,
    )
    remarks = [*_note_learning(model, trained), *_note_epochs(config, trained)]
    log_notices(emit, remarks)
    notices = (*notices, *remarks)
    verdict = None
    if not trained.interrupted:
        verdict = judge_training(trained, backend, config, data.scans, data.splits, measured=data.measured)
    if verdict is not None:
        emit(Log(verdict.sentence, level='info' if verdict.word == 'good' else 'warning'))
    result = TrainingResult(model, trained, notices, verdict)
    if config.execution.logger_backend != 'none':
        write_json(folder / METRICS, summarize_training(result))
    emit(Done(model=str(model)))
    return result


def _note_learning(path: Path, trained: TrainedModel) -> tuple[Notice, ...]:
    """A notice where a network's output is hardly another than before its training."""
    if open_model(path).manifest.self_test.has_learned:
        return ()
    epochs = len(trained.losses)
    text = (
        f'The network has hardly learned anything in {epochs} {"epoch" if epochs == 1 else "epochs"}: its output is '
        'that of a fresh one but for rounding; train longer, or on more patterns.'
    )
    return (Notice('hardly_trained', text),)


def _note_epochs(config: Config, trained: TrainedModel) -> tuple[Notice, ...]:
    """A notice where a resumed training had more epochs than it was asked for: none was added."""
    done, asked = len(trained.losses), config.training.nepochs
    if trained.interrupted or done <= asked:
        return ()
    text = (
        f'The training has {done} epochs already, more than the {asked} asked for: none is added, and the best of them '
        f'is the model, now as that of a complete training; to go on, set training.nepochs to more than {done}.'
    )
    return (Notice('no_epoch_added', text),)


def summarize_training(result: TrainingResult) -> dict[str, Any]:
    """What metrics.json holds of a training: its summary, first and last loss, verdict and notes."""
    losses = result.trained.losses
    return {
        **result.trained.summary,
        'epochs': len(losses),
        'first_loss': losses[0][1],
        'last_loss': losses[-1][1],
        'interrupted': result.trained.interrupted,
        'verdict': None if result.verdict is None else result.verdict.to_json(),
        'notes': [notice.text for notice in result.notices],
    }


def train_network(
    run: TrainingRun, config: Config, data: TrainingData, prepared: float, *, keep_interrupted: bool
) -> TrainedModel:
    """Trained model, with metrics.csv and previews, after `prepared` CPU seconds of preparation.

    Interrupted if stopped before an epoch, or none is to be kept.
    """
    folder = run.folder
    with log_epochs(folder, config, run.emit, resume=run.resume) as emit:
        job = make_job(run, config, data, prepared, emit)
        if run.preview_seconds is not None:
            job = add_previews(job, Previews(emit, run.preview_seconds))
        trained = run.backend.train(job)
    if trained.interrupted and not keep_interrupted:
        kept = f'the last checkpoint is kept in {folder / CHECKPOINTS}' if any(folder.glob(LAST)) else 'nothing is kept'
        raise Interrupted(f'Stopped on request; {kept}.')
    if not trained.losses:
        raise Interrupted(f'Stopped before the first epoch was complete; no model is written to {folder}.')
    return trained


def make_job(run: TrainingRun, config: Config, data: TrainingData, prepared: float, emit: Emit) -> TrainingJob:
    """What the backend is asked to train, after `prepared` CPU seconds of preparation."""
    return TrainingJob(
        data.scans,
        data.splits,
        config,
        run.folder,
        initial=None if run.start is None else run.start.weights,
        resume=run.resume,
        emit=emit,
        should_stop=run.should_stop,
        procedural=data.procedural,
        cpu_seconds=prepared,
        rank=run.ranks.number,
        ranks=run.ranks.total,
    )


def make_procedural_patterns(
    probe: NDArray[np.complex64], bad_pixels: NDArray[np.bool_] | None, config: Config
) -> ProceduralPatterns:
    """Procedural patterns under a probe (modes, N, N) in sqrt(counts), at the doses that the configuration names."""
    spread = config.training.dose_range
    return ProceduralPatterns(probe, (1 / spread, spread), bad_pixels, config.training.seed, config.model.patch_size)


@contextmanager
def log_epochs(folder: Path, config: Config, emit: Emit, *, resume: bool) -> Iterator[Emit]:
    """Callback `emit` that also writes metrics.csv, unless logger_backend is none."""
    if config.execution.logger_backend == 'none':
        yield emit
        return
    with MetricsTable(folder / NAME, resume=resume) as table:
        yield table.record_epochs(emit)
