"""`ptychopinn train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from ..config import FINE_TUNING, Config
from ..errors import ConfigError, Interrupted, OutputError, ScanError, VerificationError
from ..training.folder import LAST, LEFT_BY_TRAINING, check_resumable, replacing, stored_config
from .app import Decorator, debug_option, json_option, quiet_option
from .arguments import config_option, set_option
from .configuration import as_yaml, resolve
from .folders import OutputFolder
from .options import field_options
from .progress import ProgressBar
from .report import notes, pairs, show
from .stopping import stoppable

if TYPE_CHECKING:
    from ..events import Emit, ShouldStop
    from ..scan import Scan
    from ..training.run import Trained


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that train and pretrain share."""
    decorators: tuple[Decorator, ...] = (
        click.option(
            '--output-dir', type=click.Path(path_type=Path), help='Folder for model, checkpoints and metrics.'
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
        quiet_option,
        debug_option,
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@click.command()
@click.argument('scans', nargs=-1, metavar='SCAN...', type=click.Path(path_type=Path))
@click.option('--validation', type=click.Path(path_type=Path), help='Scan to validate on, in place of a held-out part.')
@click.option('--probe', metavar='FILE[:KEY]', help="Probe in place of the scans' own.")
@training_options
@field_options('train')
def train(
    scans: tuple[Path, ...],
    output_dir: Path | None,
    file: str | None,
    settings: tuple[str, ...],
    validation: Path | None,
    probe: str | None,
    initial: Path | None,
    resume: bool,
    overwrite: bool,
    print_config: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a network on one or more scans and write the model to the output folder.

    SCAN is an NPZ file, or a Ptychodus folder with diffraction.h5 and product.h5. The output folder gets
    model.safetensors, checkpoints/ with the last and the best epoch, metrics.csv (a row an epoch) and config.yaml.
    Settings come from the command line, then from --config, then from the defaults. Ctrl-C stops at the next batch;
    --resume goes on from there.
    """
    begun = begin(
        output_dir,
        file,
        settings,
        options,
        initial=initial,
        resume=resume,
        overwrite=overwrite,
        print_config=print_config,
    )
    if begun is None:
        return
    config, folder = begun
    run_training(
        scans or _from_config(config),
        config,
        folder,
        validation=validation or config.data.test_data_file,
        probe=probe,
        initial=initial,
        resume=resume,
        quiet=quiet,
        as_json=as_json,
    )


def begin(
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
        config = resumed(named(folder), file, settings, options)
    if print_config:
        click.echo(as_yaml(config), nl=False)
        return None
    folder = named(folder)
    if not resume and not overwrite:
        refuse_to_replace(folder)
    return config, folder


def run_training(
    paths: Sequence[Path],
    config: Config,
    folder: Path,
    *,
    validation: Path | None = None,
    probe: str | None = None,
    initial: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> Trained:
    """Read, train, tell; raises Interrupted, with a sentence how to go on, when it was stopped."""
    said: list[str] = []

    def work(emit: Emit, should_stop: ShouldStop) -> Trained:
        scans = [read_with_probe(path, config, probe, said) for path in paths]
        held_out = None if validation is None else read_with_probe(validation, config, probe, said)
        from ..training.train import train as train_scans

        return train_scans(
            scans,
            config,
            folder,
            validation=held_out,
            initial=initial,
            resume=resume,
            sources=[str(path.absolute()) for path in paths],
            emit=emit,
            should_stop=should_stop,
        )

    again = f'ptychopinn train {" ".join(map(str, paths))} --output-dir {folder}'
    return run_job(work, config, folder, again, said, resume=resume, quiet=quiet, as_json=as_json)


def run_job(
    work: Callable[[Emit, ShouldStop], Trained],
    config: Config,
    folder: Path,
    again: str,
    said: list[str],
    *,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> Trained:
    """Do the work of a training and tell; raises Interrupted, with the command that goes on, when it was stopped."""
    quiet_bar = quiet or not config.execution.progress
    cpu = time.process_time()
    with OutputFolder(folder) as output, stoppable() as should_stop, ProgressBar('reading', quiet=quiet_bar) as bar:
        emit = output.watching(bar.emit)
        try:
            trained = work(emit if resume else replacing(folder, emit), should_stop)
        except (Interrupted, VerificationError) as error:
            if not should_stop():
                raise
            raise Interrupted(f'Stopped too early for a model. {_how_to_go_on(again, folder)}') from error
    summary = _summary(trained, said, time.process_time() - cpu)
    if as_json or not quiet:
        show(summary, as_json=as_json, text=_lines(summary))
    if trained.trained.interrupted:
        raise Interrupted(
            f'Stopped after epoch {summary["epochs"]} of {config.training.nepochs}; {trained.model} is the best. '
            f'{_how_to_go_on(again, folder)}'
        )
    return trained


def refuse_to_replace(folder: Path) -> None:
    """OutputError when the folder holds an earlier training, so that none is lost by mistake."""
    if folder.is_dir():
        for pattern in LEFT_BY_TRAINING:
            for path in sorted(folder.glob(pattern)):
                raise OutputError(
                    f'The folder {folder} already holds a training ({path.relative_to(folder)}); '
                    'pass --resume to go on with it, --overwrite to replace it, or another --output-dir.'
                )


def _how_to_go_on(again: str, folder: Path) -> str:
    return f'Go on with: {again}{" --resume" if any(folder.glob(LAST)) else ""}'


def named(folder: Path | None) -> Path:
    """The output folder; ConfigError when there is none."""
    if folder is None:
        raise ConfigError('No output folder is named; pass --output-dir DIR.')
    return folder


def _from_config(config: Config) -> tuple[Path, ...]:
    if config.data.train_data_file is None:
        raise ConfigError('No scan is named; pass one: ptychopinn train SCAN --output-dir DIR.')
    return (config.data.train_data_file,)


def resumed(folder: Path, file: str | None, settings: Sequence[str], options: dict[str, Any]) -> Config:
    """The configuration of the training in `folder`, with what the command line changes; never another network."""
    stored = stored_config(folder)
    config = resolve(stored, file, settings, options)
    check_resumable(folder, stored, config)
    return config


def read_with_probe(path: Path, config: Config, probe: str | None, said: list[str]) -> Scan:
    """A scan that has a probe, its own or the one given; what the reader notes is added to `said`."""
    from ..io import read_scan

    found = read_scan(path, domain=config.data.measurement_domain, probe=probe)
    if found.scan.probe is None:
        raise ScanError(f'{path} has no probe (probeGuess); pass one with --probe FILE[:KEY].')
    said += [f'{path.name}: {notice.text}' for notice in found.notices]
    return found.scan


def _summary(trained: Trained, said: Sequence[str], cpu_seconds: float) -> dict[str, Any]:
    from ..io.system import measure_peak_memory

    losses = trained.trained.losses
    return {
        'model': str(trained.model),
        'output_dir': str(trained.model.parent),
        **trained.trained.summary,
        'epochs': len(losses),
        'first_loss': losses[0][1],
        'last_loss': losses[-1][1],
        'total_cpu_seconds': round(cpu_seconds, 2),
        'peak_memory_mib': round(measure_peak_memory(), 1),
        'interrupted': trained.trained.interrupted,
        'notes': [*said, *(notice.text for notice in trained.notices)],
    }


def _lines(summary: dict[str, Any]) -> list[str]:
    head = {
        'epochs': summary['epochs'],
        'patterns seen': summary.get('patterns_seen'),
        'training loss': f'{summary["first_loss"]:.4g} -> {summary["last_loss"]:.4g}',
        'CPU time': f'{summary["total_cpu_seconds"]:.1f} s',
        'peak memory': f'{summary["peak_memory_mib"]:.0f} MiB',
        'device': summary.get('device'),
    }
    return [*pairs(head), *notes(summary['notes']), *pairs({'model': summary['model']})]
