"""`ptychopinn study`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, Interrupted, PtychoPINNError, quote
from ..events import with_logging
from ..experiments.study import Outcome, Run, Study, list_runs, list_states, read_description, run_some, run_study
from ..experiments.study.records import FAILED, LOGS
from ..experiments.study.table import group_by_seed
from ..physics.scoring.metrics import LEADING
from .app import Decorator, debug_option, json_option
from .arguments import output_option, set_option
from .configuration import read_command_line
from .engines import EngineArguments, engine_options
from .folders import check_output_folder
from .logs import job_output_options
from .progress import ProgressBar
from .report import format_pairs, format_table, show
from .stopping import catch_stop_signals

LIST = 'VALUE,...'


def _split_values(ctx: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
    """The values of a list; ConfigError when it holds none."""
    if text is None:
        return None
    values = [value.strip() for value in text.split(',') if value.strip()]
    if not values:
        raise ConfigError(f'{parameter.opts[0]} is {quote(text)}; it must hold values separated by commas.')
    return values


def _list_option(name: str, text: str) -> Decorator:
    found: Decorator = click.option(name, metavar=LIST, callback=_split_values, help=text)
    return found


@click.command()
@click.argument('description', metavar='[NAME|FILE]', required=False)
@output_option
@_list_option('--dose', 'Photons incident per pattern [default: 1e5].')
@_list_option('--overlap', 'Overlap of neighboring probe spots in percent, 0 for none [default: 65].')
@_list_option('--gridsize', 'gridsize^2 patterns must agree in training [default: as in the settings].')
@_list_option('--train-patterns', 'Train on so many patterns of another object [default: on the scan itself].')
@_list_option('--model', 'pinn, supervised, pretrained or engine [default: pinn,engine].')
@_list_option('--backend', 'Backends of the networks [default: torch].')
@_list_option('--passes', 'Passes of the engine after the network, or auto [default: auto].')
@_list_option('--engine-passes', 'Passes of the engine alone [default: 20].')
@click.option('--seeds', type=int, help='Repeats with other noise, positions and initial weights [default: 3].')
@click.option(
    '--scan', type=click.Path(path_type=Path), help='Scan file with the true object and probe, in place of drawn ones.'
)
@click.option('--object', metavar='NAME', help='Kind of object [default: cells].')
@click.option('--probe', metavar='NAME', help='Kind of probe [default: defocused].')
@click.option('--n', type=int, help='Side of a diffraction pattern, pixels [default: 64].')
@click.option('--area', type=float, help='Side of the scanned square, pixels [default: 252].')
@click.option('--max-cpu-seconds', type=float, help='Limit of each training, CPU seconds [default: 240].')
@click.option('--patterns-seen', type=int, help='Patterns that each training visits [default: 70000].')
@click.option(
    '--pretrained', metavar='MODEL', type=click.Path(path_type=Path),
    help='Model of the runs called pretrained [default: one is pretrained for each dose and seed].',
)  # fmt: skip
@set_option
@engine_options
@click.option('--overwrite', is_flag=True, help='Replace the study that the output folder holds.')
@json_option
@job_output_options
@debug_option
def study(
    description: str | None,
    output_dir: Path,
    settings: tuple[str, ...],
    listed: bool,
    names: tuple[str, ...],
    engine: EngineArguments,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Run a grid of simulated scans, trainings and reconstructions and show how the results depend on what is varied.

    NAME is a shipped study (dose, overlap, training-size, pinn-against-supervised), FILE a YAML file like those; the
    options come first. Every combination of the listed values is a run. The output folder gets study.csv (a row a run),
    study.html (curves and pictures on one page), and the files of each run. A run that is done is not done again: the
    same command goes on with an interrupted study and tries failed runs again. --workers, --slurm or --dask run them in
    several processes, here or elsewhere. Exit code 1 if any run failed.
    """
    overrides = {**given, 'settings': read_command_line(settings, {})}
    described = read_description(description, overrides)
    runs = list_runs(described)
    if listed:
        _list_runs(described, runs, output_dir, as_json)
        return
    check_output_folder(output_dir)
    title = 'Study' if description is None else f'Study: {Path(description).stem}'
    with catch_stop_signals() as should_stop, ProgressBar('reading', quiet=quiet) as bar:
        emit = with_logging(bar.emit)
        try:
            if names:
                _check_rows(run_some(described, output_dir, names, emit=emit, should_stop=should_stop))
                return
            with engine.open(output_dir / LOGS) as place:
                outcome = run_study(
                    described,
                    output_dir,
                    name=title,
                    overwrite=overwrite,
                    engine=place,
                    bundle=engine.bundle,
                    emit=emit,
                    should_stop=should_stop,
                )
        except Interrupted as error:
            raise Interrupted(f'Stopped; what is done is in {output_dir}, and the same command goes on.') from error
    if as_json or not quiet:
        show(_summarize(outcome), as_json=as_json, text=_format_lines(outcome))
    _check_rows(outcome.rows)


def _check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise PtychoPINNError where runs failed."""
    failed = [row for row in rows if row['status'] == FAILED]
    if failed:
        raise PtychoPINNError(
            f'{len(failed)} of {len(rows)} runs failed, the first with: {failed[0]["error"]} '
            'Start the same command again to try them again.'
        )


def _list_runs(described: Study, runs: list[Run], output_dir: Path, as_json: bool) -> None:
    trainings = {run.pretraining if run.model == 'pretrained' else run.training for run in runs if run.backend}
    values = {
        'runs': len(runs),
        'trainings': len(trainings),
        'training_cpu_seconds_at_most': len(trainings) * described.max_cpu_seconds,
    }
    states = list_states(described, output_dir)
    text = [*format_pairs(values), *(f'{state:<8}  {name}' for name, state in states.items())]
    show({**values, 'jobs': states}, as_json=as_json, text=text)


def _summarize(outcome: Outcome) -> dict[str, Any]:
    return {
        'runs': len(outcome.rows),
        'failed': len(outcome.failed),
        'table': str(outcome.table),
        'page': str(outcome.page),
        'rows': list(outcome.rows),
    }


def _format_lines(outcome: Outcome) -> Iterable[str]:
    groups = group_by_seed(outcome.rows, list(LEADING))
    names = [name for name in (groups[0].factors if groups else ()) if _varies(name, outcome.rows) or name == 'model']
    rows = [
        [' '.join(_format_factor(name, group.factors) for name in names), *(group.mean(key) for key in LEADING)]
        for group in groups
    ]
    unscored = [f'{row["model"]}: {row["error"]}' for row in outcome.rows if row['status'] == 'unscored']
    files = format_pairs({'table': str(outcome.table), 'page': str(outcome.page)})
    return [*(format_table(['mean over the seeds', *LEADING.values()], rows) if rows else []), *unscored, *files]


def _varies(name: str, rows: Iterable[Mapping[str, Any]]) -> bool:
    return len({row.get(name) for row in rows} - {None}) > 1


def _format_factor(name: str, factors: Mapping[str, Any]) -> str:
    value = factors[name]
    if name in ('model', 'backend'):
        return str(value or '')
    return f'{name}={value:g}' if value is not None else ''
