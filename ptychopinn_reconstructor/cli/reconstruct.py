"""`ptychopinn reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..config import Config
from ..errors import ConfigError
from ..model_file.opening import open_model
from ..reconstruction.finish import Result
from ..reconstruction.patches import NAME as PATCHES
from ..reconstruction.reconstruct import reconstruct as reconstruct_scan
from .configuration import dump_yaml, read_command_line, read_file
from .options import field_options, settings_options
from .progress import ProgressBar
from .result_job import ResultJob, print_each, refuse_settings, result_options, run_each
from .stopping import catch_stop_signals


@click.command()
@click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path))
@click.option(
    '--model',
    'models',
    type=click.Path(path_type=Path),
    multiple=True,
    help='The trained model (model.safetensors); repeated: the mean of several, their difference as the uncertainty.',
)
@settings_options
@result_options
@field_options('reconstruct')
def reconstruct(
    scan: Path,
    models: tuple[Path, ...],
    file: str | None,
    settings: tuple[str, ...],
    print_config: bool,
    output_dir: Path,
    probe: str | None,
    truth: Path | None,
    margin: int | None,
    pixel_size: float | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Reconstruct a scan with a trained model.

    The output folder gets product.h5 (a Ptychodus product), reconstructed_amplitude.png, reconstructed_phase.png and
    metrics.json. The backend is the one that wrote the model, and --probe-power the one it was trained with, unless
    given. The network's object is improved by passes of the iterative engine, as many as the dose asks for; --passes 0
    leaves it as it is. Further pictures and metrics.json say how far the result can be trusted.
    """
    config = _resolve_config(models[0] if models else None, file, settings, options)
    if print_config:
        click.echo(dump_yaml(config), nl=False)
        return
    job = ResultJob(output_dir, truth, margin, pixel_size, as_json, quiet or not config.execution.progress)
    with catch_stop_signals() as should_stop, ProgressBar('reading', quiet=job.quiet) as bar:

        def work(one: ResultJob) -> Result:
            assert config.inference.model_path is not None  # _resolve_config has seen to it
            kept = one.folder / PATCHES
            result = reconstruct_scan(
                one.scan,
                config.inference.model_path,
                config,
                ensemble=models[1:],
                probe=one.scan.probe if probe is not None else None,
                patches_file=kept,
                emit=bar.emit,
                should_stop=should_stop,
            )
            one.finish(result)
            if config.inference.debug:
                one.files['patches'] = kept
            if config.refinement.probe:
                one.keep_probe(result)
            return result

        done = run_each(job, scan, config, probe, work)
    print_each(job, done, strict=strict)


def _resolve_config(model: Path | None, file: str | None, settings: tuple[str, ...], options: dict[str, Any]) -> Config:
    """Defaults, then what the model was written with, then file, then command line."""
    from_file = read_file(file) if file is not None else {}
    from_line = read_command_line(settings, options)
    refuse_settings('reconstruct', from_line, 'is a setting of the training, which the model has behind it')
    if model is not None:
        from_line['inference']['model_path'] = str(model)
    path = Config().merged(from_file, from_line).inference.model_path
    if path is None:
        raise ConfigError('No model is named; pass --model model.safetensors, as ptychopinn train writes it.')
    manifest = open_model(path).manifest
    data = manifest.config.data
    own: dict[str, dict[str, Any]] = {
        'execution': {'backend': manifest.backend},
        'data': {'probe_power': data.probe_power, 'nphotons': data.nphotons},
    }
    return Config().merged(own, from_file, from_line)
