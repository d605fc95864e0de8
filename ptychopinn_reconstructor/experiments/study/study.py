"""Executing a study: from its description to study.csv and study.html."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import Interrupted
from ...events import Emit, ShouldStop, ignore, never
from ...io.locks import FolderLock
from ...model_file.opening import open_model
from ..steps import Steps, check_backends
from .description import Study
from .grid import Run, list_runs
from .page import write_page
from .records import FAILED, Values, claim_folder, is_finished
from .runner import Runner
from .scans import Sample
from .table import write_table

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
    emit: Emit = ignore,
    should_stop: ShouldStop = never,
) -> Outcome:
    """Execute the runs of a study that are not complete; write study.csv and study.html to `output_dir`.

    Every training and every reconstruction is a command in a process of its own. A run that fails is noted in its row,
    is tried again when the study is started again, and stops no other. Runs of an earlier call are taken as they are;
    the grid may have grown since, but what the study holds fixed must be the same.

    Raises
    ------
    ConfigError, ScanError, ModelFileError, BackendError, OutputError
        Before any run: something that all runs need is not there, or the folder holds another study.
    Interrupted
        When asked to stop; table and page show what is done, and the same call goes on.
    """
    folder, runs = Path(output_dir), list_runs(study)
    sample = Sample.of(study)
    check_backends({run.backend for run in runs if run.backend is not None})
    for run in runs:
        sample.patterns(run)
    if study.pretrained is not None and any(run.model == 'pretrained' for run in runs):
        open_model(study.pretrained)
    with FolderLock(folder, 'study'):
        claim_folder(folder, study, overwrite)
        return _execute(study, sample, folder, runs, name, emit, should_stop)


def _execute(
    study: Study, sample: Sample, folder: Path, runs: Sequence[Run], name: str, emit: Emit, should_stop: ShouldStop
) -> Outcome:
    """Execute the runs in a folder that no other study writes to."""
    outcome = Outcome([], folder / 'study.csv', folder / 'study.html')
    steps = Steps(emit, should_stop, len(runs))
    runner = Runner(study, sample, folder, steps)
    known = {run: record for run in runs if is_finished(record := runner.read_record(run)) and record is not None}
    shown = time.monotonic()

    def rows() -> list[Values]:
        return [known[run] for run in runs if run in known]

    try:
        for steps.done, run in enumerate(runs):
            if should_stop():
                raise Interrupted('Stopped on request.')
            if run not in known:
                known[run] = runner.execute(run)
                write_table(outcome.table, rows())
            if time.monotonic() - shown > PAGE_EVERY:
                write_page(outcome.page, study, name, rows(), folder, len(runs))
                shown = time.monotonic()
    finally:
        write_table(outcome.table, rows())
        write_page(outcome.page, study, name, rows(), folder, len(runs))
    return replace(outcome, rows=rows())
