"""study.csv, one row for each run with its factors and metrics; mean and spread over the seeds."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ...errors import ScanError
from ...io.atomic import write_atomically
from ...io.plain_json import to_plain_json
from .grid import FACTORS
from .records import DONE

Row = Mapping[str, Any]
LEADING = (
    *FACTORS, 'status', 'phase_psnr', 'amplitude_psnr', 'frc_area', 'amplitude_ratio', 'residual', 'cpu_seconds',
    'train_cpu_seconds', 'peak_memory_mib', 'train_peak_memory_mib', 'wall_seconds', 'train_wall_seconds',
    'patterns', 'step_px', 'refine_passes', 'epochs', 'patterns_seen', 'fit_cpu_seconds', 'parameters',
)  # fmt: skip
TRAILING = ('versions', 'error')
TEXTS = ('model', 'backend', 'status', *TRAILING)


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; a value that a row does not have, or that is not finite, is an empty cell."""
    others = sorted({key for row in rows for key in row} - {*LEADING, *TRAILING})
    with write_atomically(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, [*LEADING, *others, *TRAILING])
        writer.writeheader()
        writer.writerows(to_plain_json(row) for row in rows)


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a study.csv: numbers as int or float, empty cells as None.

    Raises ScanError when the file cannot be read or is no such table.
    """
    try:
        with Path(path).open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScanError(f'Cannot read the table {path} ({error}); pass the study.csv of a study.') from error
    if rows and not {*FACTORS, 'status'} <= rows[0].keys():
        raise ScanError(f'{path} lacks the columns of a study, such as {FACTORS[0]}; pass the study.csv of a study.')
    return [{key: _parse_cell(key, text) for key, text in row.items() if key is not None} for row in rows]


def _parse_cell(key: str, text: str | None) -> Any:
    if not text:
        return None
    if key in TEXTS:
        return text
    number = float(text)
    return int(number) if number.is_integer() and '.' not in text and 'e' not in text else number


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only: shared factors, and all values of each metric."""

    factors: Mapping[str, Any]
    values: Mapping[str, list[float]]

    def mean(self, figure: str) -> float:
        """Mean of a metric over the seeds; NaN where no run has it."""
        return fmean(self.values[figure]) if self.values.get(figure) else math.nan

    def spread(self, figure: str) -> float:
        """Standard deviation of a metric over the seeds; 0 for a single one."""
        found = self.values.get(figure, [])
        return stdev(found) if len(found) > 1 else 0.0

    def count(self, figure: str) -> int:
        """Number of runs that have a metric."""
        return len(self.values.get(figure, []))


def group_by_seed(rows: Iterable[Row], figures: Sequence[str]) -> list[Group]:
    """Scored runs grouped by all factors but the seed, in order of appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    names = [name for name in FACTORS if name != 'seed']
    for row in rows:
        if row.get('status') == DONE:
            found.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return [
        Group(
            dict(zip(names, key, strict=True)),
            {figure: [float(row[figure]) for row in members if row.get(figure) is not None] for figure in figures},
        )
        for key, members in found.items()
    ]
