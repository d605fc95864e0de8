"""What the commands `train` and `pretrain` share: their options, and all but the training itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from ..config import FINE_TUNING, Config
from ..errors import ConfigError, Interrupted, OutputError, ScanError, VerificationError
from ..events import Emit, ShouldStop, ignore
from ..io import read_scans
from ..io.system import measure_peak_memory
from ..scan import Scan
from ..training.folder import LAST, LEFT_BY_TRAINING, check_resumable, read_stored_config, replace_earlier
from ..training.ranks import find_ranks
from ..training.run import TrainingResult, summarize_training
from ..training.verdict import TrainingVerdict
from .app import debug_option, decorate_with, json_option
from .arguments import config_option, set_option
from .configuration import dump_yaml, resolve
from .folders import OutputFolder
from .logs import job_output_options
from .progress import ProgressBar
from .report import format_notes, format_pairs, format_reasons, show
from .stopping import catch_stop_signals


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that train and pretrain share."""
    return decorate_with(
        click.option(
            '--output-dir',
            type=click.Path(path_type=Path),
            help='Folder for model, checkpoints and metrics. [required, unless the configuration names it]',
        ),
        config_option,
        set_option,
        click.option(
            '--from', 'initial', metavar='MODEL', type=click.Path(path_type=Path), help='Model to train further.'
        ),
        click.option(
            '--resume', is_flag=True, help='Go on from the last checkpoint in the output folder, with its settings.'
        ),
        click.option('--overwrite', is_flag=True, help='Replace the training that the output folder holds.'),
        click.option('--print-config', is_flag=True, help='Print the complete configuration as YAML and stop.'),
        json_option,
        job_output_options,
        debug_option,
    )(function)


def begin_training(
    output_dir: Path | None,
    file: str | None,
    settings: Sequence[str],
    options: dict[str, Any],
    *,
    initial: Path | None,
    resume: bool,
    overwrite: bool,
    print_config: bool,
    settled: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> tuple[Config, Path] | None:
    """The configuration and the folder of a training; None where the configuration was only to be printed.

    `settled` are settings that follow from the command.
    """
    default = Config() if initial is None else Config().merged(FINE_TUNING)
    config = resolve(default, file, settings, options, settled)
    folder = output_dir or config.training.output_dir
    if resume:
        config = read_resumed_config(require_folder(folder), file, settings, options)
    if print_config:
        click.echo(dump_yaml(config), nl=False)
        return None
    folder = require_folder(folder)
    if not resume and not overwrite:
        refuse_to_overwrite(folder)
    return config, folder


def run_job(
    work: Callable[[Emit, ShouldStop], TrainingResult],
    config: Config,
    folder: Path,
    command: str,
    notes: list[str],
    *,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> TrainingResult:
    """Run a training and print its summary; raises Interrupted, with the command that resumes it, when stopped."""
    if find_ranks(config.execution).number:  # the first process tells, and is alone in the folder
        with catch_stop_signals() as should_stop:
            return work(ignore, should_stop)
    quiet_bar = quiet or not config.execution.progress
    cpu = time.process_time()
    with (
        OutputFolder(folder) as output,
        catch_stop_signals() as should_stop,
        ProgressBar('reading', quiet=quiet_bar) as bar,
    ):
        emit = output.watching(bar.emit)
        try:
            trained = work(emit if resume else replace_earlier(folder, emit), should_stop)
        except (Interrupted, VerificationError) as error:
            if not should_stop():
                raise
            raise Interrupted(f'Stopped too early for a model. {_describe_resuming(command, folder)}') from error
    summary = _summarize(trained, notes, time.process_time() - cpu)
    if as_json or not quiet:
        show(summary, as_json=as_json, text=_format_lines(summary, trained.verdict))
    if trained.trained.interrupted:
        raise Interrupted(
            f'Stopped after epoch {summary["epochs"]} of {config.training.nepochs}; {trained.model} is the best. '
            f'{_describe_resuming(command, folder)}'
        )
    return trained


def refuse_to_overwrite(folder: Path) -> None:
    """OutputError when the folder holds an earlier training, so that none is lost by mistake."""
    if folder.is_dir():
        for pattern in LEFT_BY_TRAINING:
            for path in sorted(folder.glob(pattern)):
                raise OutputError(
                    f'The folder {folder} already holds a training ({path.relative_to(folder)}); '
                    'pass --resume to go on with it, --overwrite to replace it, or another --output-dir.'
                )


def _describe_resuming(command: str, folder: Path) -> str:
    return f'Go on with: {command}{" --resume" if any(folder.glob(LAST)) else ""}'


def require_folder(folder: Path | None) -> Path:
    """The output folder; ConfigError when there is none."""
    if folder is None:
        raise ConfigError('No output folder is named; pass --output-dir DIR.')
    return folder


def read_resumed_config(folder: Path, file: str | None, settings: Sequence[str], options: dict[str, Any]) -> Config:
    """The configuration of the training in `folder`, with what the command line changes; never another network."""
    stored = read_stored_config(folder)
    config = resolve(stored, file, settings, options)
    check_resumable(stored, config)
    return config


def read_with_probe(path: Path, config: Config, probe: str | None, notes: list[str]) -> list[Scan]:
    """The scans of a file, with a probe of their own or the one given; the reader's notices are appended to `notes`."""
    reads = read_scans(
        path,
        domain=config.data.measurement_domain,
        as_is=config.data.as_is,
        probe=probe,
        scratch=config.execution.scratch_dir,
    )
    for index, read in reads.items():
        if read.scan.probe is None:
            raise ScanError(f'{path} has no probe (probeGuess); pass one with --probe FILE[:KEY].')
        name = path.name if index is None else f'{path.name}, scan {index}'
        notes += [f'{name}: {notice.text}' for notice in read.notices]
    return [read.scan for read in reads.values()]


def _summarize(trained: TrainingResult, notes: Sequence[str], cpu_seconds: float) -> dict[str, Any]:
    values = summarize_training(trained)
    return {
        'model': str(trained.model),
        'output_dir': str(trained.model.parent),
        **values,
        'total_cpu_seconds': round(cpu_seconds, 2),
        'peak_memory_mib': round(measure_peak_memory(), 1),
        'notes': [*notes, *values['notes']],
    }


def _format_lines(summary: dict[str, Any], verdict: TrainingVerdict | None) -> list[str]:
    head = {
        'epochs': summary['epochs'],
        'patterns seen': summary.get('patterns_seen'),
        'training loss': f'{summary["first_loss"]:.4g} -> {summary["last_loss"]:.4g}',
        'CPU time': f'{summary["total_cpu_seconds"]:.1f} s',
        'peak memory': f'{summary["peak_memory_mib"]:.0f} MiB',
        'device': summary.get('device'),
    }
    judged = [] if verdict is None else [f'verdict: {verdict.fit}: {verdict.word}', *format_reasons(verdict.reasons)]
    return [*format_pairs(head), *format_notes(summary['notes']), *judged, *format_pairs({'model': summary['model']})]
