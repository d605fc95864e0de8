"""`ptychopinn diagnose`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..diagnosis.diagnose import diagnose as diagnose_scan
from ..diagnosis.finding import Diagnosis, Finding
from ..diagnosis.pictures import write_trials
from ..diagnosis.trials import BUDGET
from ..errors import OutputError, ScanError, SeveralScansError
from ..io import DomainChoice, ScanFile, read_scan, write_cxi, write_npz
from ..io.plain_json import write_json
from ..model_file.opening import open_model
from .app import debug_option, json_option
from .arguments import probe_option
from .folders import check_output_folder
from .logs import job_output_options
from .progress import ProgressBar
from .report import format_notes, format_pairs, format_table, show
from .stopping import catch_stop_signals

WRITTEN = ('.npz', '.cxi')
SHOWN_TRIALS = 8


@click.command()
@click.argument('scan', metavar='SCAN', type=click.Path(path_type=Path))
@probe_option
@click.option(
    '--measurement-domain', 'domain', type=click.Choice(['auto', 'counts', 'amplitude']), default='auto',
    show_default=True, help='What the patterns of SCAN are.',
)  # fmt: skip
@click.option('--model', type=click.Path(path_type=Path), help='Model (model.safetensors) whose probe to compare with.')
@click.option('--scan-index', type=int, metavar='NUMBER', help='The scan of that number, in a file that holds several.')
@click.option(
    '--seconds', type=click.FloatRange(0), default=BUDGET, show_default=True,
    help='CPU time for trial reconstructions; 0: only what the data show by themselves.',
)  # fmt: skip
@click.option('--fix', metavar='OUT', type=click.Path(path_type=Path), help='Write the mended scan (.npz or .cxi).')
@click.option('--output-dir', type=click.Path(path_type=Path), help='Folder for diagnosis.json and trials.png.')
@json_option
@job_output_options
@debug_option
def diagnose(
    scan: Path,
    probe: str | None,
    domain: DomainChoice,
    model: Path | None,
    scan_index: int | None,
    seconds: float,
    fix: Path | None,
    output_dir: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find out what is wrong with a scan, the first cause first, and what to do about it.

    Looks at the data, and where a short trial reconstruction does not fit, tries on a part of the patterns what may be
    wrong: turned detectors, swapped or stretched positions, a background, a wrong probe and more.
    """
    _check_outputs(fix, output_dir)
    opened = None if model is None else open_model(model)
    with catch_stop_signals() as should_stop, ProgressBar('diagnose', quiet=quiet) as bar:
        read, several = _read(scan, domain, probe, scan_index)
        found = diagnose_scan(
            read.scan,
            notices=read.notices,
            model=opened,
            seconds=seconds,
            emit=bar.emit,
            should_stop=should_stop,
        )
        found = replace(found, findings=(*several, *found.findings))
    files: dict[str, str] = {}
    if fix is not None:
        (write_cxi if fix.suffix.lower() == '.cxi' else write_npz)(fix, found.scan)
        files['mended scan'] = str(fix)
    values: dict[str, Any] = {'scan': str(scan), **found.to_json()}
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        files['diagnosis'] = str(output_dir / 'diagnosis.json')
        write_json(output_dir / 'diagnosis.json', values)
        if found.images:
            files['trials'] = str(write_trials(output_dir / 'trials.png', found.images))
    if as_json or not quiet:
        show(values | {'files': files}, as_json=as_json, text=[*format_diagnosis(found), *format_pairs(files)])


def _read(
    scan: Path, domain: DomainChoice, probe: str | None, index: int | None
) -> tuple[ScanFile, tuple[Finding, ...]]:
    """The scan, as it is where its reading would refuse it; the first of several, with a finding that says so."""
    try:
        return read_scan(scan, domain=domain, probe=probe, scan_index=index), ()
    except SeveralScansError as error:
        first = error.indexes[0]
        several = Finding(
            'several_samples',
            f'The file holds {len(error.indexes)} scans (scan_index {", ".join(map(str, error.indexes))}); what '
            f'follows is about scan {first}.',
            'certain',
            'Nothing for the commands, which take each by itself; diagnose another with --scan-index.',
        )
        return read_scan(scan, domain=domain, probe=probe, scan_index=first), (several,)
    except ScanError:
        return read_scan(scan, domain=domain, probe=probe, scan_index=index, as_is=True), ()


def _check_outputs(fix: Path | None, folder: Path | None) -> None:
    if fix is not None:
        if fix.suffix.lower() not in WRITTEN:
            raise OutputError(f"Cannot write '{fix}': its name must end in one of {', '.join(WRITTEN)}.")
        check_output_folder(fix.absolute().parent)
    if folder is not None:
        check_output_folder(folder)


def format_diagnosis(found: Diagnosis) -> list[str]:
    """A diagnosis as lines for people: what is wrong and what to do first, the figures behind it last."""
    lines = [line for number, finding in enumerate(found.findings, 1) for line in _format_finding(number, finding)]
    if not lines:
        lines = ['Nothing is wrong with this scan as far as its data and trial reconstructions tell.']
    lines += ['', *format_pairs(dict(found.figures)), *format_notes(notice.text for notice in found.notices)]
    if found.trials:
        best = sorted(found.trials, key=lambda trial: trial.noise_ratio)[:SHOWN_TRIALS]
        rows = [(trial.assumption, trial.noise_ratio, f'{trial.excess:.2%}') for trial in best]
        head = ('assumed in a trial (the best fits)', 'misfit / noise', 'misfit beyond noise')
        lines += [
            '',
            *format_table(head, rows),
            f'Trials: {len(found.trials)}, {found.cpu_seconds:.0f} s of CPU time with those that only compare',
        ]
    return lines


def _format_finding(number: int, finding: Finding) -> list[str]:
    return [f'{number}. {finding.code} ({finding.certainty}): {finding.finding}', f'   To do: {finding.remedy}']
