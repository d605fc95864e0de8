"""What the commands `reconstruct` and `refine` share: their options, and all but the reconstruction itself."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import click

from ..config import Config, field_table
from ..errors import ConfigError, Interrupted, VerdictError
from ..events import Emit, Notice, ShouldStop, ignore, never
from ..io import ObjectFile, ScanFile, read_object, read_scans
from ..io.atomic import make_folder
from ..io.plain_json import write_json
from ..physics.processes import ALONE, Processes
from ..physics.scoring.metrics import Comparison, check_truth, default_margin
from ..reconstruction.evaluate import as_object_file, evaluate
from ..reconstruction.finish import Result
from ..reconstruction.writing import PICTURES, Pictures, write_probe, write_result
from ..result import Verdict
from .app import Decorator, debug_option, decorate_with, find_command_line, json_option
from .arguments import margin_option, output_option, probe_option
from .configuration import Overrides
from .folders import check_output_folder
from .logs import job_output_options
from .many_scans import Outcome, Outcomes, name_folders, watch_folder
from .options import SEPARATOR, field_options, list_commands, settings_options
from .processes import join_processes
from .progress import ProgressBar
from .report import show
from .result_page import PAGE, Origin, write_page
from .result_report import collect_metrics, format_result
from .stopping import catch_stop_signals
from .wording import OWN_ARGUMENTS


@dataclass(frozen=True)
class ResultArguments:
    """What reconstruct and refine are both given; `options` are the settings among them, as section__field."""

    scans: tuple[Path, ...]
    file: str | None
    settings: tuple[str, ...]
    print_config: bool
    output_dir: Path
    probe: str | None
    truth: Path | None
    margin: int | None
    pixel_size: float | None
    strict: bool
    pictures: Pictures
    as_json: bool
    quiet: bool
    options: Mapping[str, Any]
    processes: Processes = ALONE

    @classmethod
    def take_from(cls, values: dict[str, Any]) -> Self:
        """What click hands over; it is taken out of `values`."""
        own = {
            entry.name: values.pop(entry.name) for entry in fields(cls) if entry.name not in ('options', 'processes')
        }
        options = {name: values.pop(name) for name in list(values) if SEPARATOR in name}
        return cls(**own, options=options)

    @property
    def writes(self) -> bool:
        """Whether this process writes and prints what comes of it: of several, the first one."""
        return self.processes.number == 0

    @contextmanager
    def show_progress(self, title: str) -> Iterator[Emit]:
        """Callback `emit` of a job whose progress is shown, by the process that writes."""
        with ProgressBar(title, quiet=self.quiet or not self.writes) as bar:
            yield bar.emit if self.writes else ignore


def result_command(name: str, given: str = 'SCAN...') -> Decorator:
    """A command on scans, or on one FOLDER of them, that takes the settings of `name`.

    It has the options that reconstruct and refine share. The function gets `ResultArguments`, and what other options
    it has.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            function(ResultArguments.take_from(values), **values)

        several = {'nargs': -1} if given.endswith('...') else {'callback': lambda _, __, path: (path,)}
        argument = click.argument(
            'scans', metavar=given, required=True, type=click.Path(path_type=Path), **several
        )  # fmt: skip
        return argument(result_options(field_options(name)(run)))

    return decorate


def result_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that reconstruct and refine share, but for the settings."""
    return decorate_with(
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
        click.option(
            '--pictures',
            type=click.Choice(PICTURES),
            default='full',
            show_default=True,
            help='full: with color bars, those of how far the result can be trusted, and a page of all (report.html); '
            'plain: amplitude and phase in gray; none.',
        ),
        click.option('--strict', is_flag=True, help='End with exit code 3 if the verdict on the result is bad.'),
        json_option,
        job_output_options,
        debug_option,
    )(function)


@dataclass(frozen=True)
class Asked:
    """What is asked of a result, whatever it comes from."""

    truth: Path | None = None
    margin: int | None = None
    pixel_size: float | None = None
    pictures: Pictures = 'full'
    as_json: bool = False
    origin: Origin | None = None


class ResultJob:
    """The steps of reconstruct and refine around their work for one scan: check, compare, write, print."""

    def __init__(self, folder: Path, asked: Asked, *, quiet: bool, processes: Processes = ALONE) -> None:
        check_output_folder(folder)
        self.folder, self.asked, self.margin, self.quiet = folder, asked, asked.margin, quiet
        self.processes = processes
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
        if self.asked.truth is not None:
            self.truth = read_object(self.asked.truth)
            check_truth(self.truth.object, self.truth.origin, self.scan.positions, margin=self.margin)
        if self.asked.pixel_size is not None and self.scan.pixel_size is not None:
            text = '--pixel-size is not used: the scan file has the size of an object pixel.'
            self.notices = (*self.notices, Notice('pixel_size_ignored', text))

    def for_scan(self, index: int) -> ResultJob:
        """The job of one of several scans, in a folder of its own."""
        return ResultJob(self.folder / f'scan_{index}', self.asked, quiet=self.quiet, processes=self.processes)

    def finish(self, result: Result) -> None:
        """Compare with the truth, then write: bad input is found before anything is on disk."""
        image, network = self._compare(result)
        self.metrics = collect_metrics(result, image, network, time.process_time() - self.cpu, self.notices)
        written = write_result(
            self.folder,
            result.reconstruction,
            self.metrics,
            pixel_size=self.asked.pixel_size,
            reliability=result.report.reliability,
            pictures=self.asked.pictures,
        )
        page = self.folder / PAGE
        if self.asked.origin is not None and self.asked.pictures == 'full':
            written['report'] = write_page(page, result, self.metrics, written, self.asked.origin)
        else:
            page.unlink(missing_ok=True)  # of an earlier result
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
        if self.asked.as_json or not self.quiet:
            values = {**self.metrics, 'files': files}
            text = format_result(self.metrics, result.report.run.verdict, files)
            show(values, as_json=self.asked.as_json, text=text)


Done = dict[int | None, tuple[ResultJob, Result]]
Work = Callable[[ResultJob, Emit, ShouldStop], Result]


def run_each(given: ResultArguments, config: Config, work: Work) -> None:
    """Do the work for the scan of a file, or for each of several in a folder of its own; write and print the results.

    Of several files each has a folder named after it, and one that fails leaves the others. VerdictError at the end
    where a result is bad and --strict is given. Where torchrun has started several processes all of them do each scan
    together, and the first one writes and prints.
    """
    folders = {given.scans[0]: given.output_dir}
    if several := len(given.scans) > 1:
        folders = name_folders(given.scans, given.output_dir)
    if several and given.truth is not None:
        raise ConfigError('--truth is that of one scan; name one, or leave it out.')
    with catch_stop_signals() as asked, join_processes(asked) as processes:
        given = replace(given, processes=processes, quiet=given.quiet or not config.execution.progress)
        # Several processes ask each other whether to stop where they meet: all do, at the same place.
        should_stop = asked if processes.total == 1 else never
        if several:
            _run_several(folders, given, config, work, should_stop)
        else:
            _run_one(given, config, work, should_stop)


def _run_one(given: ResultArguments, config: Config, work: Work, should_stop: ShouldStop) -> None:
    with given.show_progress('reading') as emit:
        done = run_file(given.scans[0], given.output_dir, given, config, work, emit, should_stop)
    if given.writes:
        print_each(done, given.output_dir, given, quiet=given.quiet)
    refuse_bad([result.report.run.verdict for _, result in done.values()], strict=given.strict)


def _run_several(
    folders: Mapping[Path, Path], given: ResultArguments, config: Config, work: Work, should_stop: ShouldStop
) -> None:
    outcomes = Outcomes()
    with given.show_progress('reading') as emit:

        def reconstruct(file: Path) -> list[Outcome]:
            if should_stop():
                raise Interrupted('Stopped on request.')
            return summarize(run_file(file, folders[file], given, config, work, emit, should_stop))

        outcomes.run(folders, reconstruct)
    if given.writes:
        finish_many(outcomes, given, quiet=given.quiet)


def run_folder(given: ResultArguments, config: Config, work: Work) -> None:
    """Do the work for the scan files of a folder, and for those that arrive, until asked to stop."""
    (folder,) = given.scans
    if given.truth is not None:
        raise ConfigError('--truth is that of one scan, and a folder has many; leave it out.')
    quiet, outcomes = given.quiet or not config.execution.progress, Outcomes()
    with catch_stop_signals() as should_stop, ProgressBar('waiting', quiet=quiet) as bar:

        def reconstruct(file: Path) -> list[Outcome]:
            done = run_file(file, given.output_dir / file.stem, given, config, work, bar.emit, should_stop)
            return summarize(done)

        outcomes.run(watch_folder(folder, given.output_dir, should_stop), reconstruct)
    finish_many(outcomes, given, quiet=quiet)


def summarize(done: Done) -> list[Outcome]:
    """What is kept of the scans of a file, when there are many files."""
    return [
        Outcome({key: value for key, value in one.metrics.items() if key != 'residual_per_pattern'}, verdict)
        for one, result in done.values()
        for verdict in [result.report.run.verdict]
    ]


def finish_many(outcomes: Outcomes, given: ResultArguments, *, quiet: bool) -> None:
    """Write and print what came of many files; errors at the end, when there are any."""
    make_folder(given.output_dir)
    write_json(given.output_dir / 'metrics.json', outcomes.collect())
    if given.as_json or not quiet:
        show(outcomes.collect(), as_json=given.as_json, text=outcomes.format())
    outcomes.refuse_failed()
    refuse_bad(outcomes.verdicts, strict=given.strict)


def run_file(
    path: Path,
    folder: Path,
    given: ResultArguments,
    config: Config,
    work: Work,
    emit: Emit,
    should_stop: ShouldStop,
) -> Done:
    """Do the work for the scan or the scans of a file and write what comes of it into a folder."""
    origin = Origin(path, config, find_command_line())
    asked = Asked(given.truth, given.margin, given.pixel_size, given.pictures, given.as_json, origin)
    quiet = given.quiet or not config.execution.progress
    job = ResultJob(folder, asked, quiet=quiet, processes=given.processes)
    data = config.data
    reads = read_scans(
        path,
        domain=data.measurement_domain,
        as_is=data.as_is,
        probe=given.probe,
        fresnel_number=config.refinement.fresnel_number,
        scratch=config.execution.scratch_dir,
    )
    jobs = {index: job if index is None else job.for_scan(index) for index in reads}
    for index, read in reads.items():
        jobs[index].take(read)
    done: Done = {}
    for index, one in jobs.items():
        done[index] = one, work(one, emit, should_stop)
        if not given.writes:
            continue
        one.finish(done[index][1])
        codes = {notice.code for notice in done[index][1].report.notices}
        if config.refinement.probe or config.refinement.modes or codes & {'probe_asked_for', 'probe_replaced'}:
            one.keep_probe(done[index][1])
    return done


def print_each(done: Done, folder: Path, given: ResultArguments, *, quiet: bool) -> None:
    """Print what came of each scan of a file; of several, also write the metrics of all to the output folder."""
    if len(done) > 1:
        overview = collect_overview({str(index): one.metrics for index, (one, _) in done.items()})
        write_json(folder / 'metrics.json', overview)
        if given.as_json or not quiet:
            show(overview, as_json=given.as_json, text=overview['notes'][:1])
    if len(done) == 1 or not given.as_json:
        for one, result in done.values():
            one.print_summary(result)


def refuse_bad(verdicts: Iterable[Verdict | None], *, strict: bool) -> None:
    """VerdictError where a verdict is bad and `strict`."""
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
