"""study.html: everything of a study on one page that needs no other file."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...io.atomic import atomic_path
from .curves import FIGURES, NAMES, Shown, curve_picture, label, object_picture, varied
from .description import Study
from .grid import FACTORS, Run
from .records import DONE, FAILED, PICTURE
from .table import Group, Row, grouped

SEED_SHOWN = 0
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1150px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: 2px 9px; text-align: right; }
th { border-bottom: 1px solid #999; } tr:nth-child(even) td { background: #f4f4f4; }
td:first-child, th:first-child { text-align: left; } img { max-width: 100%; } .note { color: #666; }
"""


def write_page(path: Path, study: Study, name: str, rows: Sequence[Row], folder: Path, total: int) -> None:
    """Write the page for the rows that are there; `folder` holds the runs, `total` is how many there will be."""
    done = [row for row in rows if row.get('status') == DONE]
    parts = [f'<h1>{html.escape(name)}</h1>', *_introduction(study, rows, total)]
    for along in varied(done) if done else ():
        parts += _section(done, along, folder)
    if done:
        parts += ['<h2>All figures</h2>', _means(done)]
    failed = [row for row in rows if row.get('status') != DONE]
    if failed:
        parts += ['<h2>Without figures</h2>', _table(('run', 'status', 'reason'), map(_failure, failed))]
    parts += ['<h2>Settings</h2>', _table(('', ''), _settings(study, rows))]
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}</title>'
        f'<style>{STYLE}</style></head>\n<body>\n' + '\n'.join(parts) + '\n</body></html>\n'
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def _introduction(study: Study, rows: Sequence[Row], total: int) -> list[str]:
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
    return [f'<p class="note">{" ".join(words)}</p>']


def _section(rows: Sequence[Row], along: str, folder: Path) -> list[str]:
    title = f'Along the {NAMES[along]}' if NAMES[along] else 'The methods'
    parts = [f'<h2>{html.escape(title)}</h2>', _image(curve_picture(rows, along), 'svg+xml', f'Curves: {title}')]
    shown = _shown(rows, along, folder)
    if shown:
        for kind in ('phase', 'amplitude'):
            parts.append(_image(object_picture(shown, along, kind), 'png', f'Objects, {kind}: {title}'))
        parts.append(f'<p class="note">Objects of seed {SEED_SHOWN}; phase PSNR / FRC area below each.</p>')
    return parts


def _shown(rows: Sequence[Row], along: str, folder: Path) -> list[Shown]:
    found = []
    for row in rows:
        file = folder / 'runs' / Run.of(row).name / PICTURE
        if row['seed'] != SEED_SHOWN or not file.exists():
            continue
        with np.load(file) as arrays:
            x = row.get(along) if along != 'model' else None
            caption = f'{row["phase_psnr"]:.1f} dB / {row["frc_area"]:.3f}'
            name = label(row, along, rows)
            found.append(Shown(name, None if x is None else float(x), arrays['result'], arrays['truth'], caption))
    return found


def _means(rows: Sequence[Row]) -> str:
    names = [name for name in FACTORS if name != 'seed' and len({row.get(name) for row in rows}) > 1] or ['model']
    figures = [*FIGURES, 'train_cpu_seconds', 'peak_memory_mib']
    head = [*names, *(text for text in FIGURES.values()), 'CPU time, training (s)', 'peak memory (MiB)', 'runs']
    lines = []
    for group in grouped(rows, figures):
        cells = [_cell(group.factors[name]) for name in names]
        cells += [_mean(group, figure) for figure in figures]
        lines.append([*cells, str(group.count('cpu_seconds'))])
    return _table(head, lines)


def _mean(group: Group, figure: str) -> str:
    if not group.count(figure):
        return ''
    spread = f' ± {group.spread(figure):.2g}' if group.count(figure) > 1 else ''
    return f'{group.mean(figure):.4g}{spread}'


def _failure(row: Row) -> tuple[str, str, str]:
    factors = ', '.join(f'{name} {_cell(row[name])}' for name in FACTORS if row.get(name) is not None)
    return factors, str(row.get('status')), str(row.get('error') or '')


def _settings(study: Study, rows: Sequence[Row]) -> Iterable[tuple[str, str]]:
    for name, value in study.model_dump(mode='json').items():
        if value not in (None, [], {}):
            yield name, ', '.join(map(_cell, value)) if isinstance(value, list) else _cell(value)
    for versions in dict.fromkeys(row['versions'] for row in rows if row.get('versions')):
        yield 'versions', str(versions)


def _cell(value: Any) -> str:
    return f'{value:g}' if isinstance(value, float) else '' if value is None else str(value)


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ['<table><tr>' + ''.join(f'<th>{html.escape(cell)}</th>' for cell in head) + '</tr>']
    lines += ['<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>' for row in rows]
    return '\n'.join([*lines, '</table>'])


def _image(data: bytes, kind: str, text: str) -> str:
    return f'<p><img alt="{html.escape(text)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}"></p>'
