"""Records of runs and trainings: JSON files that are written only when the work is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ...errors import OutputError, quote
from ...io.plain_json import to_plain_json, write_json
from .description import Study

FORMAT_VERSION = 1
STUDY_FILE, DESCRIPTION, RECORD, PICTURE = 'study.json', 'study.yaml', 'run.json', 'compared.npz'
LOGS = 'logs'  # what an engine writes of its jobs
OWN = (STUDY_FILE, DESCRIPTION, 'study.csv', 'study.html', 'scans', 'trainings', 'runs', LOGS)
DONE, UNSCORED, FAILED = 'done', 'unscored', 'failed'

Values = dict[str, Any]


def claim_folder(folder: Path, study: Study, overwrite: bool) -> None:
    """Mark the folder as this study's; OutputError if it holds a study with other fixed parameters."""
    file = folder / STUDY_FILE
    if overwrite:
        for name in OWN:
            path = folder / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    fixed = to_plain_json(study.fixed())
    if file.exists():
        there = read_record(file)
        before = there.get('fixed', {}) if there else {}
        for name in sorted(fixed.keys() | before.keys()):
            if fixed.get(name) != before.get(name):
                raise OutputError(
                    f'The folder {folder} holds a study with {name} {quote(before.get(name))}, '
                    f'not {quote(fixed.get(name))}; '
                    'pass --overwrite to replace it, or another --output-dir.'
                )
    write_json(file, {'format_version': FORMAT_VERSION, 'fixed': fixed})


def read_record(file: Path) -> Values | None:
    """Values of a record; None if it does not exist or cannot be read."""
    try:
        values = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def is_finished(values: Values | None) -> bool:
    """Whether a run is complete; a failed run is repeated."""
    return values is not None and values.get('status') in (DONE, UNSCORED)
