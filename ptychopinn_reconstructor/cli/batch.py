"""`ptychopinn batch`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import Interrupted, PtychoPINNError
from ..events import with_logging
from ..experiments.batch import read_list, run_lines, select_lines
from .app import debug_option, json_option
from .engines import EngineArguments, engine_options
from .logs import job_output_options
from .progress import ProgressBar
from .report import show
from .stopping import catch_stop_signals


@click.command()
@click.argument('file', metavar='FILE', type=click.Path(path_type=Path))
@engine_options
@json_option
@job_output_options
@debug_option
def batch(
    file: Path,
    listed: bool,
    names: tuple[str, ...],
    engine: EngineArguments,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run many commands, here or on a cluster, each once: an ensemble, several instruments, a thousand scans.

    FILE holds a command a line, as in a shell (train, pretrain, reconstruct, refine, compare), each with an
    --output-dir of its own, which names the job. A job that is done is not done again, a training that was ended goes
    on from its last checkpoint: the same command goes on with an interrupted list and tries failed jobs again. Exit
    code 1 if any job failed.
    """
    lines = select_lines(read_list(file), names, file)
    if listed:
        states = {line.name: line.state for line in lines}
        show({'jobs': states}, as_json=as_json, text=(f'{state:<8}  {name}' for name, state in states.items()))
        return
    with catch_stop_signals() as should_stop, ProgressBar('jobs', quiet=quiet) as bar:
        emit = with_logging(bar.emit)
        try:
            if names:
                errors = run_lines(lines, file, emit=emit, should_stop=should_stop)
            else:
                with engine.open(file.with_name(f'{file.name}.logs')) as place:
                    errors = run_lines(
                        lines, file, engine=place, bundle=engine.bundle, emit=emit, should_stop=should_stop
                    )
        except Interrupted as error:
            raise Interrupted('Stopped; the same command goes on with what is not done.') from error
    failed = {name: error for name, error in errors.items() if error}
    if as_json or not quiet:
        counts = {'jobs': len(errors), 'failed': len(failed), 'errors': failed}
        show(counts, as_json=as_json, text=[f'{len(errors) - len(failed)} of {len(errors)} jobs are done.'])
    if failed:
        name, sentence = next(iter(failed.items()))
        raise PtychoPINNError(f'{len(failed)} of {len(errors)} jobs failed, the first ({name}) with: {sentence}')
