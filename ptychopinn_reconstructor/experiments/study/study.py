"""Executing a study: from its description to study.csv and study.html."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ConfigError, Interrupted, quote
from ...events import Emit, ShouldStop, ignore, never
from ...io.locks import FolderInUseError, FolderLock
from ...model_file.opening import open_model
from ..jobs import Engine, Task, run_tasks
from ..steps import Steps, check_backends
from .description import Study, write_description
from .grid import Run, bundle_runs, list_runs
from .page import write_page
from .records import DESCRIPTION, FAILED, Values, claim_folder, is_finished
from .runner import Runner
from .scans import Sample
from .table import write_table

OPEN = 'open'
NO_RECORD = 'It ended without a record; do all machines see the folder'
PAGE_EVERY = 60.0  # seconds between two pages while runs go on; the table is written after each run


@dataclass(frozen=True)
class Outcome:
    """Rows of all runs, and the paths of study.csv and study.html."""

    rows: Sequence[Mapping[str, Any]]
    table: Path
    page: Path

    @property
    def failed(self) -> list[Mapping[str, Any]]:
        """Rows of the failed runs."""
        return [row for row in self.rows if row['status'] == FAILED]


def run_study(
    study: Study,
    output_dir: str | Path,
    *,
    name: str = 'Study',
    overwrite: bool = False,
    engine: Engine | None = None,
    bundle: int = 1,
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Outcome:
    """Execute the runs of a study that are not complete; write study.csv and study.html to `output_dir`.

    Every training and every reconstruction is a command in a process of its own. A run that fails is noted in its row,
    is tried again when the study is started again, and stops no other. Runs of an earlier call are taken as they are;
    the grid may have grown since, but what the study holds fixed must be the same. An `engine` runs them in other
    processes, here or elsewhere, at least `bundle` in each, with the results that one process gives.

    Raises
    ------
    ConfigError, ScanError, ModelFileError, BackendError, OutputError
        Before any run: something that all runs need is not there, or the folder holds another study.
    Interrupted
        When asked to stop; table and page show what is done, and the same call goes on.
    """
    folder, runs = Path(output_dir), list_runs(study)
    sample = _check_study(study, runs)
    with FolderLock(folder, 'study'):
        claim_folder(folder, study, overwrite)
        write_description(folder / DESCRIPTION, study)
        runner = Runner(study, sample, folder, Steps(emit, should_stop, len(runs)))
        return _execute(runner, runs, name, engine, bundle)


def run_some(
    study: Study, output_dir: str | Path, names: Sequence[str], *, emit: Emit = ignore, should_stop: ShouldStop = never
) -> list[Values]:
    """Rows of the runs of these names, executed here unless complete; neither table nor page is written.

    Several processes may do this at a time. Raises ConfigError where the study has no such run, FolderInUseError where
    another process executes it, Interrupted when asked to stop, and what `run_study` raises.
    """
    runs = {run.name: run for run in list_runs(study)}
    if missing := [name for name in names if name not in runs]:
        raise ConfigError(f'The study has no run {quote(missing[0])}; --list names those that it has.')
    sample = _check_study(study, [*runs.values()])
    claim_folder(Path(output_dir), study, overwrite=False)
    runner = Runner(study, sample, Path(output_dir), Steps(emit, should_stop, len(names)))
    rows = []
    for runner.steps.done, name in enumerate(names):
        rows.append(runner.execute(runs[name]))
    return rows


def list_states(study: Study, output_dir: str | Path) -> dict[str, str]:
    """The names of all runs with their states: done, unscored, failed, or open."""
    runner = Runner(study, Sample.of(study), Path(output_dir), Steps())
    records = {run.name: runner.read_record(run) for run in list_runs(study)}
    return {name: OPEN if record is None else str(record.get('status')) for name, record in records.items()}


def _check_study(study: Study, runs: Sequence[Run]) -> Sample:
    """The sample of a study; raises what `run_study` raises where something that all runs need is not there."""
    sample = Sample.of(study)
    check_backends({run.backend for run in runs if run.backend is not None})
    for run in runs:
        sample.patterns(run)
    if study.pretrained is not None and any(run.model == 'pretrained' for run in runs):
        open_model(study.pretrained)
    return sample


def _execute(runner: Runner, runs: Sequence[Run], name: str, engine: Engine | None, bundle: int) -> Outcome:
    """Execute the runs in a folder whose table and page no other study writes."""
    folder, steps = runner.folder, runner.steps
    outcome = Outcome([], folder / 'study.csv', folder / 'study.html')
    known = {run: record for run in runs if is_finished(record := runner.read_record(run)) and record is not None}
    waiting = [run for run in runs if run not in known]
    shown = time.monotonic()

    def rows() -> list[Values]:
        return [known[run] for run in runs if run in known]

    try:
        steps.done = len(known)
        for run, record in _run_here(runner, waiting) if engine is None else _run_on(engine, runner, waiting, bundle):
            known[run] = record
            steps.done = len(known)
            write_table(outcome.table, rows())
            if time.monotonic() - shown > PAGE_EVERY:
                write_page(outcome.page, runner.study, name, rows(), folder, len(runs))
                shown = time.monotonic()
    finally:
        write_table(outcome.table, rows())
        write_page(outcome.page, runner.study, name, rows(), folder, len(runs))
    return replace(outcome, rows=rows())


def _run_here(runner: Runner, runs: Sequence[Run]) -> Iterator[tuple[Run, Values]]:
    """Runs with their records, one after another."""
    for run in runs:
        if runner.steps.should_stop():
            raise Interrupted('Stopped on request.')
        try:
            yield run, runner.execute(run)
        except FolderInUseError as error:
            yield run, _fail(run, str(error))


def _run_on(engine: Engine, runner: Runner, runs: Sequence[Run], bundle: int) -> Iterator[tuple[Run, Values]]:
    """Runs with their records, as an engine ends them."""
    steps = runner.steps
    bundles = {}
    for runs_of_bundle in bundle_runs(runs, bundle):
        named = [word for run in runs_of_bundle for word in ('--run', run.name)]
        folder = str(runner.folder.absolute())
        arguments = ('study', f'{folder}/{DESCRIPTION}', '--output-dir', folder, *named, '--quiet')
        bundles[Task(runs_of_bundle[0].shared, arguments, Path.cwd())] = runs_of_bundle
    steps.report_stage(f'{len(runs)} runs in {len(bundles)} processes')
    for task, error in run_tasks([*bundles], engine, emit=steps.emit, should_stop=steps.should_stop):
        for run in bundles[task]:
            yield run, runner.read_record(run) or _fail(run, error or f'{NO_RECORD} {runner.folder}?')
        steps.report_stage(task.name)


def _fail(run: Run, error: str) -> Values:
    return {**run.factors(), 'status': FAILED, 'error': error}
