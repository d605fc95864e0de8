"""What is kept of each run and each training: a JSON file of plain values, in place only when the work is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ...errors import OutputError
from ...io.plain_json import to_plain_json, write_json
from .description import Study

FORMAT_VERSION = 1
STUDY_FILE, RECORD, PICTURE = 'study.json', 'run.json', 'compared.npz'
OWN = (STUDY_FILE, 'study.csv', 'study.html', 'scans', 'trainings', 'runs')
DONE, UNSCORED, FAILED = 'done', 'unscored', 'failed'

Values = dict[str, Any]


def claim(folder: Path, study: Study, overwrite: bool) -> None:
    """Make the folder this study's: OutputError when it holds one in which something else is held fixed."""
    file = folder / STUDY_FILE
    if overwrite:
        for name in OWN:
            path = folder / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    fixed = to_plain_json(study.fixed())
    if file.exists():
        there = read(file)
        before = there.get('fixed', {}) if there else {}
        for name in sorted(fixed.keys() | before.keys()):
            if fixed.get(name) != before.get(name):
                raise OutputError(
                    f'The folder {folder} holds a study with {name} {before.get(name)!r}, not {fixed.get(name)!r}; '
                    'pass --overwrite to replace it, or another --output-dir.'
                )
    write_json(file, {'format_version': FORMAT_VERSION, 'fixed': fixed})


def read(file: Path) -> Values | None:
    """The values of a record; None when there is none, or none that can be read."""
    try:
        values = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def finished(values: Values | None) -> bool:
    """Whether a run need not be done again; one that failed is."""
    return values is not None and values.get('status') in (DONE, UNSCORED)
