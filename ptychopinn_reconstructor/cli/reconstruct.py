"""`ptychopinn reconstruct` and `ptychopinn refine`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config import Config, field_table
from ..errors import ConfigError
from ..events import Notice
from .app import Decorator, debug_option, json_option, quiet_option
from .arguments import margin_option, output_option, probe_option
from .configuration import Overrides, as_yaml, command_line, read_file
from .folders import check_output_folder
from .options import OWN_ARGUMENTS, commands_of, field_options, settings_options
from .progress import ProgressBar
from .report import metrics_of, result_lines, show
from .stopping import stoppable

if TYPE_CHECKING:
    from ..io import ObjectFile
    from ..physics.scoring.metrics import Comparison
    from ..reconstruction.finish import Result


def result_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that reconstruct and refine share."""
    decorators: tuple[Decorator, ...] = (
        output_option,
        probe_option,
        click.option('--truth', type=click.Path(path_type=Path), help='File with the true object, to compare with.'),
        margin_option,
        click.option(
            '--pixel-size',
            type=click.FloatRange(0, min_open=True),
            metavar='METERS',
            help='Size of an object pixel for a scan that is known in pixels only [default: 1e-8, nominal].',
        ),
        json_option,
        quiet_option,
        debug_option,
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


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
    config = _configuration(models[0] if models else None, file, settings, options)
    if print_config:
        click.echo(as_yaml(config), nl=False)
        return
    job = Job(output_dir, truth, margin, pixel_size, as_json, quiet or not config.execution.progress)
    with stoppable() as should_stop, ProgressBar('reading', quiet=job.quiet) as bar:
        job.read(scan, config, probe)
        from ..reconstruction.patches import NAME as PATCHES
        from ..reconstruction.reconstruct import reconstruct as reconstruct_scan

        given = job.scan.probe if probe is not None else None
        assert config.inference.model_path is not None  # _configuration has seen to it
        path, others = config.inference.model_path, models[1:]
        kept = output_dir / PATCHES
        result = reconstruct_scan(
            job.scan,
            path,
            config,
            ensemble=others,
            probe=given,
            patches_file=kept,
            emit=bar.emit,
            should_stop=should_stop,
        )
        job.finish(result)
        if config.inference.debug:
            job.files['patches'] = kept
        if config.refinement.probe:
            job.keep_probe(result)
    job.tell()


@click.command()
@click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path))
@settings_options
@result_options
@field_options('refine')
def refine(
    scan: Path,
    file: str | None,
    settings: tuple[str, ...],
    print_config: bool,
    output_dir: Path,
    probe: str | None,
    truth: Path | None,
    margin: int | None,
    pixel_size: float | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Reconstruct a scan with the classical iterative engine alone, from an empty object: the baseline.

    Writes the same files as reconstruct, and with --refine-probe also probe.npz. No model is needed, and on the CPU no
    framework; --device auto is a GPU where the backend is installed and there is one.
    """
    from_line = command_line(settings, options)
    refuse_settings('refine', from_line, 'is no setting of the engine alone')
    config = Config().merged(read_file(file) if file is not None else {}, from_line)
    if config.refinement.passes == 0:
        raise ConfigError('passes is 0, which leaves the object empty; set --passes to 1 or more, or to auto.')
    if print_config:
        click.echo(as_yaml(config), nl=False)
        return
    job = Job(output_dir, truth, margin, pixel_size, as_json, quiet or not config.execution.progress)
    with stoppable() as should_stop, ProgressBar('reading', quiet=job.quiet) as bar:
        job.read(scan, config, probe)
        from ..reconstruction.reconstruct import refine_scan

        given = job.scan.probe if probe is not None else None
        result = refine_scan(job.scan, config, probe=given, emit=bar.emit, should_stop=should_stop)
        job.finish(result)
        if config.refinement.probe:
            job.keep_probe(result)
    job.tell()


class Job:
    """What reconstruct and refine do before and after their work: read and check, compare, write, tell."""

    def __init__(
        self, folder: Path, truth: Path | None, margin: int | None, size: float | None, as_json: bool, quiet: bool
    ) -> None:
        check_output_folder(folder)
        self.folder, self.truth_file, self.margin, self.pixel_size = folder, truth, margin, size
        self.as_json, self.quiet = as_json, quiet
        self.cpu = time.process_time()
        self.truth: ObjectFile | None = None
        self.metrics: dict[str, Any] = {}
        self.files: dict[str, Path] = {}

    def read(self, scan: Path, config: Config, probe: str | None) -> None:
        """Read the scan and the truth; a truth that cannot be compared with is refused before any work."""
        from ..io import read_object, read_scan

        found = read_scan(scan, domain=config.data.measurement_domain, probe=probe)
        self.scan, self.notices = found.scan, found.notices
        if self.margin is None:
            from ..physics.scoring.metrics import default_margin

            self.margin = default_margin(self.scan.n_pixels)
        if self.truth_file is not None:
            from ..physics.scoring.metrics import check_truth

            self.truth = read_object(self.truth_file)
            check_truth(self.truth.object, self.truth.origin, self.scan.positions, margin=self.margin)
        if self.pixel_size is not None and self.scan.pixel_size is not None:
            text = '--pixel-size is not used: the scan file has the size of an object pixel.'
            self.notices = (*self.notices, Notice('pixel_size_ignored', text))

    def finish(self, result: Result) -> None:
        """Compare with the truth, then write: bad input is found before anything is on disk."""
        from ..reconstruction.writing import write_result

        image, network = self._compared(result)
        self.metrics = metrics_of(result, image, network, time.process_time() - self.cpu, self.notices)
        self.files = write_result(
            self.folder,
            result.reconstruction,
            self.metrics,
            pixel_size=self.pixel_size,
            trust=result.report.trust,
        )

    def _compared(self, result: Result) -> tuple[Comparison | None, Comparison | None]:
        if self.truth is None:
            return None, None
        from dataclasses import replace

        from ..reconstruction.evaluate import as_object_file, evaluate

        whole = as_object_file(result.reconstruction)
        image = evaluate(whole, self.truth, margin=self.margin)
        if result.network is None or not result.report.run.refine_passes:
            return image, None
        return image, evaluate(replace(whole, object=result.network), self.truth, margin=self.margin)

    def keep_probe(self, result: Result) -> None:
        """Write the probe of the result to probe.npz."""
        from ..reconstruction.writing import write_probe

        self.files['probe'] = self.folder / 'probe.npz'
        write_probe(self.files['probe'], result.reconstruction.probe)

    def tell(self) -> None:
        """Print the summary."""
        files = {kind: str(path) for kind, path in self.files.items()}
        if self.as_json or not self.quiet:
            values = {**self.metrics, 'files': files}
            show(values, as_json=self.as_json, text=result_lines(self.metrics, files))


def refuse_settings(command: str, overrides: Overrides, why: str) -> None:
    """ConfigError for --set of what a command does not take: it would be ignored."""
    taken = {row.name for row in field_table() if command in commands_of(row)} | set(OWN_ARGUMENTS)
    for section, fields in overrides.items():
        if section != 'execution' and (name := next((key for key in fields if key not in taken), None)):
            raise ConfigError(f'{name} {why}; leave {name} out.')


def _configuration(model: Path | None, file: str | None, settings: tuple[str, ...], options: dict[str, Any]) -> Config:
    """Defaults, then what the model was written with, then file, then command line."""
    from_file = read_file(file) if file is not None else {}
    from_line = command_line(settings, options)
    refuse_settings('reconstruct', from_line, 'is a setting of the training, which the model has behind it')
    if model is not None:
        from_line['inference']['model_path'] = str(model)
    path = Config().merged(from_file, from_line).inference.model_path
    if path is None:
        raise ConfigError('No model is named; pass --model model.safetensors, as ptychopinn train writes it.')
    from ..model_file.opening import open_model

    manifest = open_model(path).manifest
    data = manifest.config.data
    own: dict[str, dict[str, Any]] = {
        'execution': {'backend': manifest.backend},
        'data': {'probe_power': data.probe_power, 'nphotons': data.nphotons},
    }
    return Config().merged(own, from_file, from_line)
