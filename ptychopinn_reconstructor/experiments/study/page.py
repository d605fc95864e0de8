"""study.html: plots, tables and settings of a study on one self-contained page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...display.document import Heading, Part, Picture, Table, Text, format_html
from ...io.atomic import write_atomically
from .curves import FIGURES, NAMES, AlignedObject, draw_curves, draw_objects, find_varied_factors, label_curve
from .description import Study
from .grid import FACTORS, Run
from .records import DONE, FAILED, PICTURE
from .table import Group, Row, group_by_seed

SEED_SHOWN = 0


def write_page(path: Path, study: Study, name: str, rows: Sequence[Row], folder: Path, total: int) -> None:
    """Write the page for the rows completed; `folder` holds the runs, `total` is their number when all are done."""
    with write_atomically(path) as temporary:
        temporary.write_text(format_html(name, [*_make_parts(study, rows, folder, total)]), encoding='utf-8')


def _make_parts(study: Study, rows: Sequence[Row], folder: Path, total: int) -> Iterator[Part]:
    done = [row for row in rows if row.get('status') == DONE]
    yield _introduce(study, rows, total)
    for along in find_varied_factors(done) if done else ():
        yield from _draw_section(done, along, folder)
    if done:
        yield Heading('All figures')
        yield _tabulate_means(done)
    failed = [row for row in rows if row.get('status') != DONE]
    if failed:
        yield Heading('Without figures')
        yield Table(('run', 'status', 'reason'), [*map(_describe_failure, failed)])
    yield Heading('Settings')
    yield Table(('', ''), [*_list_settings(study, rows)])


def _introduce(study: Study, rows: Sequence[Row], total: int) -> Text:
    failed = sum(row.get('status') == FAILED for row in rows)
    progress = f'{len(rows)} of {total} runs' + (f', {failed} of them failed' if failed else '')
    words = [
        f'{progress}; written {time.strftime("%Y-%m-%d %H:%M")}. PSNR with data ranges of 2.4 rad (phase) and 0.4 '
        '(amplitude), after shift, linear phase ramp and global phase have been removed; the residual is normalized. '
        'Lines are means over the seeds, bands one standard deviation, dots single runs. Every figure of every run is '
        'in study.csv.'
    ]
    if any(overlap <= 0 for overlap in study.overlap):
        words.append('Where spots do not overlap the piston (global phase) of each was removed before scoring.')
    return Text(' '.join(words))


def _draw_section(rows: Sequence[Row], along: str, folder: Path) -> Iterator[Part]:
    title = f'Along the {NAMES[along]}' if NAMES[along] else 'The methods'
    yield Heading(title)
    yield Picture.embed(draw_curves(rows, along), 'svg', f'Curves: {title}')
    shown = _read_objects(rows, along, folder)
    if shown:
        for kind in ('phase', 'amplitude'):
            yield Picture.embed(draw_objects(shown, along, kind), 'png', f'Objects, {kind}: {title}')
        yield Text(f'Objects of seed {SEED_SHOWN}; phase PSNR / FRC area below each.')


def _read_objects(rows: Sequence[Row], along: str, folder: Path) -> list[AlignedObject]:
    objects = []
    for row in rows:
        file = folder / 'runs' / Run.of(row).name / PICTURE
        if row['seed'] != SEED_SHOWN or not file.exists():
            continue
        with np.load(file) as arrays:
            x = row.get(along) if along != 'model' else None
            caption = f'{row["phase_psnr"]:.1f} dB / {row["frc_area"]:.3f}'
            name = label_curve(row, along, rows)
            objects.append(
                AlignedObject(name, None if x is None else float(x), arrays['result'], arrays['truth'], caption)
            )
    return objects


def _tabulate_means(rows: Sequence[Row]) -> Table:
    names = [name for name in FACTORS if name != 'seed' and len({row.get(name) for row in rows}) > 1] or ['model']
    figures = FIGURES | {'train_cpu_seconds': 'CPU time of the training, s', 'peak_memory_mib': 'peak memory, MiB'}
    lines = [
        [
            *(_format_factor(group.factors[name]) for name in names),
            *(_format_mean(group, key) for key in figures),
            _format_count(group),
        ]
        for group in group_by_seed(rows, [*figures])
    ]
    return Table([*names, *figures.values(), 'runs'], lines)


def _format_mean(group: Group, figure: str) -> str:
    if not group.count(figure):
        return ''
    spread = f' ± {group.spread(figure):.2g}' if group.count(figure) > 1 else ''
    return f'{group.mean(figure):.4g}{spread}'


def _format_count(group: Group) -> str:
    return str(group.count('cpu_seconds'))


def _describe_failure(row: Row) -> tuple[str, str, str]:
    factors = ', '.join(f'{name} {_format_factor(row[name])}' for name in FACTORS if row.get(name) is not None)
    return factors, str(row.get('status')), str(row.get('error') or '')


def _list_settings(study: Study, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    for name, value in study.model_dump(mode='json').items():
        if value not in (None, [], {}):
            yield name, ', '.join(map(_format_factor, value)) if isinstance(value, list) else _format_factor(value)
    for versions in dict.fromkeys(row['versions'] for row in rows if row.get('versions')):
        yield 'versions', str(versions)


def _format_factor(value: Any) -> str:
    """Text of a factor's value, without rounding."""
    return f'{value:g}' if isinstance(value, float) else '' if value is None else str(value)
