"""What the commands `reconstruct` and `refine` share: their options, and all but the reconstruction itself."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import click

from ..config import Config, field_table
from ..errors import ConfigError, VerdictError
from ..events import Emit, Notice, ShouldStop
from ..io import ObjectFile, ScanFile, read_object, read_scans
from ..io.plain_json import write_json
from ..physics.scoring.metrics import Comparison, check_truth, default_margin
from ..reconstruction.evaluate import as_object_file, evaluate
from ..reconstruction.finish import Result
from ..reconstruction.writing import write_probe, write_result
from .app import Decorator, debug_option, decorate_with, json_option
from .arguments import margin_option, output_option, probe_option
from .configuration import Overrides
from .folders import check_output_folder
from .logs import job_output_options
from .options import SEPARATOR, field_options, list_commands, settings_options
from .progress import ProgressBar
from .report import show
from .result_report import collect_metrics, format_result
from .stopping import catch_stop_signals
from .wording import OWN_ARGUMENTS


@dataclass(frozen=True)
class ResultArguments:
    """What reconstruct and refine are both given; `options` are the settings among them, as section__field."""

    scan: Path
    file: str | None
    settings: tuple[str, ...]
    print_config: bool
    output_dir: Path
    probe: str | None
    truth: Path | None
    margin: int | None
    pixel_size: float | None
    strict: bool
    as_json: bool
    quiet: bool
    options: Mapping[str, Any]

    @classmethod
    def take_from(cls, values: dict[str, Any]) -> Self:
        """What click hands over; it is taken out of `values`."""
        own = {entry.name: values.pop(entry.name) for entry in fields(cls) if entry.name != 'options'}
        options = {name: values.pop(name) for name in list(values) if SEPARATOR in name}
        return cls(**own, options=options)


def result_command(name: str) -> Decorator:
    """A command on SCAN with the options that reconstruct and refine share and those that are settings of `name`.

    The function gets `ResultArguments`, and what other options it has.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            function(ResultArguments.take_from(values), **values)

        return result_options(field_options(name)(run))

    return decorate


def result_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument and the options that reconstruct and refine share, but for the settings."""
    return decorate_with(
        click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path)),
        settings_options,
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
        click.option('--strict', is_flag=True, help='End with exit code 3 if the verdict on the result is bad.'),
        json_option,
        job_output_options,
        debug_option,
    )(function)


class ResultJob:
    """The steps of reconstruct and refine around their work: read and check, compare, write, print."""

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
        self.kept: dict[str, Path] = {}  # files that the work itself has written

    def take(self, read: ScanFile) -> None:
        """Take a scan, and read the truth; one that cannot be compared with is refused before any work."""
        self.scan, self.notices = read.scan, read.notices
        if self.margin is None:
            self.margin = default_margin(self.scan.n_pixels)
        if self.truth_file is not None:
            self.truth = read_object(self.truth_file)
            check_truth(self.truth.object, self.truth.origin, self.scan.positions, margin=self.margin)
        if self.pixel_size is not None and self.scan.pixel_size is not None:
            text = '--pixel-size is not used: the scan file has the size of an object pixel.'
            self.notices = (*self.notices, Notice('pixel_size_ignored', text))

    def for_scan(self, index: int) -> ResultJob:
        """The job of one of several scans, in a folder of its own."""
        folder = self.folder / f'scan_{index}'
        return ResultJob(folder, self.truth_file, self.margin, self.pixel_size, self.as_json, self.quiet)

    def finish(self, result: Result) -> None:
        """Compare with the truth, then write: bad input is found before anything is on disk."""
        image, network = self._compare(result)
        self.metrics = collect_metrics(result, image, network, time.process_time() - self.cpu, self.notices)
        written = write_result(
            self.folder,
            result.reconstruction,
            self.metrics,
            pixel_size=self.pixel_size,
            reliability=result.report.reliability,
        )
        self.files = {**written, **self.kept}

    def _compare(self, result: Result) -> tuple[Comparison | None, Comparison | None]:
        if self.truth is None:
            return None, None
        whole = as_object_file(result.reconstruction)
        image = evaluate(whole, self.truth, margin=self.margin)
        if result.network is None or not result.report.run.refine_passes:
            return image, None
        return image, evaluate(replace(whole, object=result.network), self.truth, margin=self.margin)

    def keep_probe(self, result: Result) -> None:
        """Write the probe of the result to probe.npz."""
        self.files['probe'] = self.folder / 'probe.npz'
        write_probe(self.files['probe'], result.reconstruction.probe)

    def print_summary(self, result: Result) -> None:
        """Print the summary."""
        files = {kind: str(path) for kind, path in self.files.items()}
        if self.as_json or not self.quiet:
            values = {**self.metrics, 'files': files}
            show(values, as_json=self.as_json, text=format_result(self.metrics, result.report.run.verdict, files))


Done = dict[int | None, tuple[ResultJob, Result]]
Work = Callable[[ResultJob, Emit, ShouldStop], Result]


def run_each(given: ResultArguments, config: Config, work: Work) -> None:
    """Do the work for the scan of a file, or for each of several in a folder of its own; write and print the results.

    VerdictError at its end where one is bad and --strict is given.
    """
    quiet = given.quiet or not config.execution.progress
    job = ResultJob(given.output_dir, given.truth, given.margin, given.pixel_size, given.as_json, quiet)
    with catch_stop_signals() as should_stop, ProgressBar('reading', quiet=quiet) as bar:
        data = config.data
        reads = read_scans(
            given.scan,
            domain=data.measurement_domain,
            as_is=data.as_is,
            probe=given.probe,
            fresnel_number=config.refinement.fresnel_number,
        )
        jobs = {index: job if index is None else job.for_scan(index) for index in reads}
        for index, read in reads.items():
            jobs[index].take(read)
        done: Done = {}
        for index, one in jobs.items():
            done[index] = one, work(one, bar.emit, should_stop)
            one.finish(done[index][1])
            codes = {notice.code for notice in done[index][1].report.notices}
            if config.refinement.probe or config.refinement.modes or codes & {'probe_asked_for', 'probe_replaced'}:
                one.keep_probe(done[index][1])
    print_each(job, done, strict=given.strict)


def print_each(job: ResultJob, done: Done, *, strict: bool) -> None:
    """Print what came of each scan; of several, also write the metrics of all to the output folder.

    VerdictError at its end where one is bad and `strict`.
    """
    if len(done) > 1:
        overview = collect_overview({str(index): one.metrics for index, (one, _) in done.items()})
        write_json(job.folder / 'metrics.json', overview)
        if job.as_json or not job.quiet:
            show(overview, as_json=job.as_json, text=overview['notes'][:1])
    if len(done) == 1 or not job.as_json:
        for one, result in done.values():
            one.print_summary(result)
    verdicts = [result.report.run.verdict for _, result in done.values()]
    bad = next((verdict for verdict in verdicts if verdict is not None and verdict.word == 'bad'), None)
    if strict and bad is not None:
        raise VerdictError(f'{bad.sentence} Everything is written; --strict makes this an error.')


def collect_overview(metrics: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """metrics.json of several scans: `scans` by their numbers, the mean of their `residual`, and all notes."""
    note = f'The file holds {len(metrics)} scans (scan_index {", ".join(metrics)}): each has a folder scan_N.'
    notes = [note, *(f'Scan {index}: {text}' for index, one in metrics.items() for text in one['notes'])]
    residual = sum(one['residual'] for one in metrics.values()) / len(metrics)
    return {'residual': residual, 'scans': dict(metrics), 'notes': notes}


def refuse_settings(command: str, overrides: Overrides, why: str) -> None:
    """ConfigError for --set of what a command does not take: it would be ignored."""
    taken = {row.name for row in field_table() if command in list_commands(row)} | set(OWN_ARGUMENTS)
    for section, given in overrides.items():
        if section != 'execution' and (name := next((key for key in given if key not in taken), None)):
            raise ConfigError(f'{name} {why}; leave {name} out.')
