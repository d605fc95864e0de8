"""`ptychopinn evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ..experiments.evaluate import evaluate_files
from ..physics.scoring.frc import format_resolution
from ..physics.scoring.metrics import FIGURES, LABELS
from .app import debug_option, json_option
from .arguments import margin_option
from .report import format_pairs, format_table, show
from .result_report import RESOLUTIONS, format_image_metrics

Values = Mapping[str, Any]


@click.command()
@click.argument('results', metavar='RESULT...', type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    '--truth', type=click.Path(path_type=Path), help='File with the true object [default: the last file named].'
)
@margin_option
@click.option(
    '--pistons', is_flag=True, help='Remove the phase of each probe spot too: for scans whose spots do not overlap.'
)
@click.option(
    '--picture',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='PNG to write: truth, results, what they differ, FRC.',
)
@json_option
@debug_option
def evaluate(
    results: tuple[Path, ...],
    truth: Path | None,
    margin: int | None,
    pistons: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Compare reconstructed objects with the true one, or with another result in its place.

    RESULT is a product.h5 or an NPZ file with an object and scan positions; --truth, or else the last file named, is
    what the others are compared with. Every figure comes twice: after shift (at most 4 px), linear phase ramp, global
    phase and amplitude ratio, which no diffraction pattern determines, are removed, and as reconstructed. PSNR, SSIM
    and MS-SSIM have data ranges of 0.4 (amplitude) and 2.4 rad (phase). A resolution is the period at the last crossing
    of a threshold by the Fourier ring correlation (FRC).
    """
    if truth is None:
        if len(results) < 2:
            raise click.UsageError("Missing argument 'TRUTH': name a second file, or pass --truth FILE.")
        *compared, truth = results
    else:
        compared = list(results)
    evaluation = evaluate_files(compared, truth, margin=margin, pistons=pistons)
    if picture is not None:
        evaluation.write_picture(picture)
    values = evaluation.to_json()
    show(values, as_json=as_json, text=_format_lines(values['results'], picture))


def _format_lines(results: list[dict[str, Any]], picture: Path | None) -> list[str]:
    head = [*format_image_metrics(results[0]), ''] if len(results) == 1 else []
    drawn = [] if picture is None else ['', *format_pairs({'picture': str(picture)})]
    blocks = (('ambiguities removed', _format_aligned), ('as reconstructed', _format_raw))
    return [*head, *_format_figures(*blocks[0], results), '', *_format_figures(*blocks[1], results), *drawn]


def _format_figures(title: str, cells: Callable[[Values], dict[str, str]], results: list[dict[str, Any]]) -> list[str]:
    columns = [cells(one) for one in results]
    names = ['' if len(results) == 1 else one['name'] for one in results]
    return format_table([title, *names], [[label, *(column[label] for column in columns)] for label in columns[0]])


def _format_aligned(values: Values) -> dict[str, str]:
    shown = {label: f'{values[key]:.5g}' for key, label in LABELS.items() if not key.endswith('_raw')}
    scales = int(values['ms_ssim_scales'])
    few = '' if scales == 5 else ' (no room for 5)'
    return {**_drop_frequencies(shown), **_format_resolutions(values['frc']), 'scales of MS-SSIM': f'{scales}{few}'}


def _format_raw(values: Values) -> dict[str, str]:
    shown = {label: f'{values[f"{key}_raw"]:.5g}' for key, label in FIGURES.items()}
    return {**_drop_frequencies(shown), **_format_resolutions(values['frc_raw'])}


def _drop_frequencies(cells: dict[str, str]) -> dict[str, str]:
    """Less the crossings in cycles per pixel, which are told as resolutions."""
    return {label: cell for label, cell in cells.items() if 'last crossing' not in label}


def _format_resolutions(frc: Values) -> dict[str, str]:
    return {f'resolution, FRC {title}': format_resolution(frc['resolution'][key]) for key, title in RESOLUTIONS.items()}
