"""`ptychopinn reconstruct`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ..config import Config
from ..errors import ConfigError
from ..events import Emit, ShouldStop
from ..model_file.opening import open_model
from ..reconstruction.finish import Result
from ..reconstruction.patches import NAME as PATCHES
from ..reconstruction.reconstruct import reconstruct as reconstruct_scan
from .configuration import dump_yaml, read_command_line, read_file
from .options import SettingsCommand
from .result_job import ResultArguments, ResultJob, Work, refuse_settings, result_command, run_each

Run = Callable[[ResultArguments, Config, Work], None]
models_option = click.option(
    '--model',
    'models',
    type=click.Path(path_type=Path),
    multiple=True,
    help='The trained model (model.safetensors); repeated: the mean of several, their difference as the uncertainty. '
    '[required, unless the configuration names it]',
)


@click.command(cls=SettingsCommand)
@models_option
@result_command('reconstruct')
def reconstruct(given: ResultArguments, models: tuple[Path, ...]) -> None:
    """Reconstruct a scan with a trained model, or several, each in a folder of its name.

    The output folder gets product.h5 (a Ptychodus product), reconstructed_amplitude.png, reconstructed_phase.png and
    metrics.json. The backend is the one that wrote the model, and --probe-power the one it was trained with, unless
    given. The network's object is improved by passes of the iterative engine, as many as the dose asks for; --passes 0
    leaves it as it is. Further pictures and metrics.json say how far the result can be trusted.
    """
    run_with_model(given, models, run_each)


def run_with_model(given: ResultArguments, models: tuple[Path, ...], run: Run) -> None:
    """Have `run` reconstruct scans with the mean of trained models."""
    config = _resolve_config(models[0] if models else None, given)
    if given.print_config:
        click.echo(dump_yaml(config), nl=False)
        return

    def work(one: ResultJob, emit: Emit, should_stop: ShouldStop) -> Result:
        assert config.inference.model_path is not None  # _resolve_config has seen to it
        if config.inference.debug:
            one.kept['patches'] = one.folder / PATCHES
        return reconstruct_scan(
            one.scan,
            config.inference.model_path,
            config,
            ensemble=models[1:],
            probe=None if given.probe is None else one.scan.probe,
            patches_file=one.folder / PATCHES,
            processes=one.processes,
            emit=emit,
            should_stop=should_stop,
        )

    run(given, config, work)


def _resolve_config(model: Path | None, given: ResultArguments) -> Config:
    """Defaults, then what the model was written with, then file, then command line."""
    from_file = {} if given.file is None else read_file(given.file)
    from_line = read_command_line(given.settings, given.options)
    refuse_settings('reconstruct', from_line, 'is a setting of the training, which the model has behind it')
    if model is not None:
        from_line['inference']['model_path'] = str(model)
    path = Config().merged(from_file, from_line).inference.model_path
    if path is None:
        raise ConfigError('No model is named; pass --model model.safetensors, as ptychopinn train writes it.')
    return Config().merged(open_model(path).manifest.defaults, from_file, from_line)
