"""results.csv and what is made from it: medians over seeds, networks against the best engine run, QUALITY.md."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from quality_cases import EXCHANGED, JUDGED, MEASURED, Figures
from quality_reach import ENGINE

Row = dict[str, Any]  # a line of results.csv: where it is from, then figures; what a row has not is left out
ORIGIN = ('case', 'row', 'machine', 'day', 'commit')
ENGINE_RUN = ('schedule', 'passes')
VERDICT = ('noise_ratio', 'verdict', 'reasons')  # how far above counting noise a result fits, the word for it, and why
RELIABILITY = (
    'correlation_details', 'correlation_all', 'uncertainty_rms', 'details_rms', 'split_seventh_px',
    'split_half_bit_px', 'truth_half_px',
)  # fmt: skip
TRAINING = ('cpu_seconds', 'patterns_seen', 'epochs', 'parameters')
# object_seconds: CPU seconds of the stages that make the object, without those that only judge it.
FIGURES = (
    *MEASURED, 'residual_to_flat', 'object_difference', *ENGINE_RUN, *RELIABILITY, *TRAINING, 'object_seconds',
    'peak_memory_mib', *VERDICT,
)  # fmt: skip
TEXT = {*ORIGIN, 'schedule', 'verdict', 'reasons'}
NOT_COUNTED = ('residual', 'reliability', 'stitch_halves', 'refine_halves')  # stages that judge the object, not make it
TITLES = {
    'phase_psnr': 'phase dB', 'amplitude_psnr': 'amplitude dB', 'frc_area': 'FRC area', 'amplitude_ratio': 'ratio',
    'noise_ratio': 'over noise', 'cpu_seconds': 'CPU-s', 'peak_memory_mib': 'MiB', 'patterns_seen': 'patterns seen',
}  # fmt: skip
AGAINST_COLUMNS = (
    *(f'{TITLES[key]} over {title}' for title in ('engine', 'with prior') for key in JUDGED),
    'faster, phase', 'faster than textbook, phase', 'faster, all three',
)  # fmt: skip
SECTIONS = {
    'Reconstructions': (*MEASURED, 'cpu_seconds', 'peak_memory_mib'),
    'Trainings': TRAINING,
    'Real scans': (*MEASURED[:4], *VERDICT, 'cpu_seconds'),
    'Dirty data': (*MEASURED[:4], *VERDICT, 'cpu_seconds'),
    'Many objects and probes': (*MEASURED, 'cpu_seconds'),
    'The best of all runs of the engine alone': (*ENGINE_RUN, *MEASURED[:4], 'cpu_seconds'),
    'What the reliability figures are worth': RELIABILITY,
    'One model, both backends': ('object_difference',),
}
INTRODUCTION = """# Quality

Made from `results.csv` by `make quality`; machine, day and commit of each case stand there. PSNR in dB (ranges:
amplitude 0.4, phase 2.4 rad), FRC area, amplitude ratio to the truth, normalized residual. Of cases with several seeds
the medians. `quality_*.py` define the cases. "network + 2": two passes of the engine after
the network; "auto": as many as `reconstruct` takes by itself. `object_difference`: the largest between the objects of
both backends, of the amplitude range."""
AGAINST = """Differences are to the best of all runs of the engine, whose schedule, momentum and passes the truth has
chosen: "engine" without the smoothness prior, or without solving for the long-range phase too ("textbook"), "with
prior" with it, as it follows a network. All but the textbook end with the wavefront step, as every network row does.
"faster": the engine's CPU time to reach the same phase PSNR (or all three figures), over that of the reconstruction;
inf where it gets there in none of its runs."""


def rows_of(case: str, origin: Mapping[str, str], figures: Figures) -> list[Row]:
    """The lines of results.csv for what a case has measured: JSON of a row name to figures."""
    lines = []
    for name, values in figures.items():
        line = {'case': case, 'row': name, **origin, **values}
        if 'stages' in values:
            line['object_seconds'] = sum(s for stage, s in values['stages'].items() if stage not in NOT_COUNTED)
        lines.append({key: line[key] for key in (*ORIGIN, *FIGURES) if line.get(key) is not None})
    return lines


def read(path: Path) -> list[Row]:
    """The lines of results.csv; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return [
            {key: text if key in TEXT else float(text) for key, text in line.items() if text}
            for line in csv.DictReader(file)
        ]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write results.csv, figures with six digits."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, (*ORIGIN, *FIGURES), lineterminator='\n')
        writer.writeheader()
        writer.writerows({key: _digits(value, 6) for key, value in row.items()} for row in rows)


def _digits(value: Any, digits: int) -> str:
    if not isinstance(value, float | int):
        return str(value)
    return f'{value:.0f}' if 10**digits <= value < float('inf') else f'{value:.{digits}g}'


def medians(rows: Iterable[Row]) -> list[Row]:
    """One row for the seeds of a case, each figure the median of those that have it."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((re.sub(r', seed \d+$', '', row['case']), row['row']), []).append(row)
    return [_median(case, name, group) for (case, name), group in groups.items()]


def _median(case: str, name: str, group: Sequence[Row]) -> Row:
    seeds = f', median of {len(group)} seeds' if len(group) > 1 else ''
    keys = dict.fromkeys(key for row in group for key in row if key not in ORIGIN)
    found = {key: [row[key] for row in group if key in row] for key in keys}
    numbers = {key: values[0] if key in TEXT else median(values) for key, values in found.items()}
    return {'case': case + seeds, 'row': name, **numbers}


# against the engine


def against_engine(rows: Sequence[Row]) -> list[Row]:
    """By how much every refined reconstruction is better, and how much faster, than the engine on the same scan."""
    found = []
    for row in rows:
        match = re.fullmatch(r'(.+) network \+ (?!0$)\w+', row['row']) if 'object_seconds' in row else None
        runs = {kind: list(engine_runs(rows, match[1], kind)) for kind in ('', 'textbook', 'prior')} if match else {}
        if runs.get(''):
            found.append({'case': row['case'], 'row': row['row'], **_compared(row, runs)})
    return found


def engine_runs(rows: Iterable[Row], scan: str, kind: str) -> Iterator[Row]:
    """The kept runs of the engine on a scan: as it is (kind ''), 'textbook' or with 'prior'."""
    for row in rows:
        before, colon, _ = row['row'].rpartition(': ')
        if row['case'] == f'{ENGINE}, {scan}' and (before if colon else '') == kind:
            yield row


def _compared(row: Row, runs: Mapping[str, list[Row]]) -> Row:
    values: Row = {}
    for title, points in (('engine', runs[''] + runs['textbook']), ('with prior', runs['prior'])):
        for key in JUDGED if points else ():
            values[f'{TITLES[key]} over {title}'] = row[key] - max(point[key] for point in points)
    for title, kind, keys in (
        ('faster, phase', '', JUDGED[:1]), ('faster than textbook, phase', 'textbook', JUDGED[:1]),
        ('faster, all three', '', JUDGED),
    ):  # fmt: skip
        if len(runs[kind]) > len(JUDGED):  # runs other than the best are kept where time is compared
            values[title] = seconds_to_equal(runs[kind], {key: row[key] for key in keys}) / row['object_seconds']
    return values


def seconds_to_equal(points: Iterable[Row], figures: Mapping[str, float]) -> float:
    """CPU seconds of the first point at which all `figures` are reached; infinity when none does."""
    reached = [point['cpu_seconds'] for point in points if all(point[key] >= low for key, low in figures.items())]
    return float(min(reached, default=float('inf')))


# the report


def report(rows: Sequence[Row]) -> str:
    """QUALITY.md."""
    single = medians(rows)
    compared = medians(against_engine(rows))
    parts = [INTRODUCTION]
    for title, columns in SECTIONS.items():
        table = _table([row for row in single if _section(row) == title], columns)
        parts += [f'## {title}', table] if table else []
        if title == 'Reconstructions' and compared:
            parts += ['## Against the engine', AGAINST, _table(compared, AGAINST_COLUMNS)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _section(row: Row) -> str:
    """The section of the report in which a row stands; '' for runs of the engine that are no best ones."""
    if row['case'].startswith(f'{ENGINE}, '):
        return 'The best of all runs of the engine alone' if 'best ' in row['row'] else ''
    if row['row'] == 'train':
        return 'Trainings'
    if row['case'].startswith('real '):
        return 'Real scans'
    if row['case'].startswith('able '):
        return 'Dirty data'
    if row['case'].startswith(('varied ', 'more data, ')):
        return 'Many objects and probes'
    if row['case'] == EXCHANGED:
        return 'One model, both backends'
    return 'What the reliability figures are worth' if RELIABILITY[0] in row else 'Reconstructions'


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    shown = [key for key in columns if any(key in row for row in rows)]
    lines = [f'| case | row | {" | ".join(TITLES.get(key, key) for key in shown)} |', '|---|---|' + '---|' * len(shown)]
    for row in rows:
        cells = (_digits(row[key], 4) if key in row else '' for key in shown)
        lines.append(f'| {row["case"]} | {row["row"]} | {" | ".join(cells)} |')
    return '\n'.join(lines) if rows else ''
