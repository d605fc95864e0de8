"""Texts of the panel: tool tips, units, words on buttons, and the status of job, model and result."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..backend import installed, resolve_name, resolve_title
from ..config import PLUGIN_SECTION, FieldInfo
from ..errors import PtychoPINNError
from .fields import GROUPS, LABELS, Field
from .settings import HOST_MODEL_PATH, ONLY_IN_PLUGIN, OPEN, format_key

if TYPE_CHECKING:
    from .job_status import JobStatus
    from .last_reliability import ReliabilityRecord
    from .reconstructor import PtychoPINNReconstructor
    from .settings import PluginSettings

TRAIN = 'Train'
# Legible on a light and on a dark background: green, amber, red.
VERDICT_COLORS = {'good': '#2e8b3d', 'doubtful': '#c77700', 'bad': '#d03030'}
MODEL_TYPES = {'pinn': 'PINN', 'supervised': 'Supervised'}
NO_MODEL_NEEDED = '<b>Start from the object</b><br>Infer refines the object of the product; no model is used.'
NO_MODEL = '<b>No model</b><br>Train one, or load one (menu beside Train).'


def list_fields(group: str, settings: PluginSettings, model_type: str) -> Iterator[Field]:
    """Fields of a group that apply to a model type."""
    for field in GROUPS[group]:
        row = settings.rows.get(field.name)
        if row is None or row.applies in ('both', model_type):
            yield field


def format_tool_tip(field: Field, settings: PluginSettings) -> str:
    """HTML tool tip of a setting: description, unit, default and key in an INI file."""
    parameter, row = settings[field.name], settings.rows.get(field.name)
    text = field.text or (_adapt_description(row, field, _can_be_empty(field, parameter)) if row is not None else '')
    facts = [
        f'Unit: {field.unit or "none"}' if field.unit or hasattr(parameter, 'get_minimum') else '',
        f'Default: {_format_default(field, settings.defaults[field.name])}',
        f'INI: {format_key(row) if row is not None else f"[{PLUGIN_SECTION}] {ONLY_IN_PLUGIN[field.name][0]}"}',
    ]
    return f'<p>{html.escape(text)}</p><p>{"<br>".join(html.escape(fact) for fact in facts if fact)}</p>'


def format_open_value(field: Field, parameter: Any) -> str:
    """Text shown for the smallest value where that means 'automatic' or 'none'; empty elsewhere."""
    return field.empty if parameter.get_minimum() == OPEN.get(field.name, 0) else ''


def format_unit(field: Field) -> str:
    """Suffix with the unit of a number; empty where the label names it."""
    return f' {field.unit}' if field.unit and field.unit not in field.label.casefold() else ''


def label_train_button(settings: PluginSettings) -> str:
    """Word on the Train button: Train, Pretrain or Fine-Tune."""
    if settings['source'].get_value() == 'procedural':
        return 'Pretrain'
    return 'Fine-Tune' if settings['start_from_model'].get_value() else TRAIN


def is_installed(backend: str) -> bool:
    """Whether a backend, by its title in the settings, is installed."""
    return resolve_name(backend) in installed()


def _can_be_empty(field: Field, parameter: Any) -> bool:
    return bool(field.empty) and (not hasattr(parameter, 'get_minimum') or bool(format_open_value(field, parameter)))


def _adapt_description(row: FieldInfo, field: Field, can_be_empty: bool) -> str:
    """Description of a field with the panel's words in place of those of a configuration file."""
    text, open_value = row.description, OPEN.get(row.name, 0)
    # A real number stands in a line, which is empty then (OptionalNumberViewController).
    smallest = 'empty' if isinstance(open_value, float) else str(open_value)
    if not can_be_empty:
        text = re.sub(r'; (None|auto): [^;.]*', '', text)
    left_open = f'{smallest} ({field.empty}):'
    words = {'None:': left_open, 'auto:': left_open, 'True:': 'Checked:', 'False:': 'Unchecked:'}
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    if can_be_empty and smallest not in text:
        text = f'{text} {smallest}: {field.empty}.'
    names = '|'.join(name for name in LABELS if '_' in name)
    return re.sub(rf'\b({names})\b', lambda match: LABELS[match[0]], text)


def _format_default(field: Field, value: object) -> str:
    if isinstance(value, bool):
        return 'checked' if value else 'unchecked'
    if field.empty and (value == OPEN.get(field.name, 0) or str(value) in ('', '.', HOST_MODEL_PATH)):
        return field.empty
    return dict(field.titles).get(str(value), str(value))


@dataclass(frozen=True)
class Status:
    """Status of the model as HTML, with a tool tip."""

    text: str
    tool_tip: str = ''


def describe_status(reconstructor: PtychoPINNReconstructor) -> Status:
    """Status of the model that Infer would use, or why there is none."""
    if reconstructor.settings['start_from_object'].get_value():
        return Status(NO_MODEL_NEEDED)
    try:
        model = reconstructor.model
    except (PtychoPINNError, OSError) as error:
        return Status(_format_error(str(error)))
    if model is None:
        path = reconstructor.settings.model_path()
        return Status(NO_MODEL if path is None else _format_error(f'There is no file {path}.'))
    network = model.config.model
    title = resolve_title(model.manifest.backend)
    lines = [
        f'{MODEL_TYPES[network.model_type]}, {title}, N = {network.N}, grid size {network.gridsize}',
        model.training_summary,
    ]
    text = f'<b>{html.escape(model.path.name)}</b><br>{"<br>".join(html.escape(line) for line in lines)}'
    return Status(text, tool_tip=str(model.path))


def format_job(status: JobStatus) -> str:
    """HTML line with what the last job failed by, in red, or with how the running one goes; empty without either."""
    return _format_error(status.problem) if status.problem else html.escape(status.line)


def _format_error(text: str) -> str:
    return f'<span style="color: {VERDICT_COLORS["bad"]}">{html.escape(text)}</span>'


def format_verdict(record: ReliabilityRecord | None) -> str:
    """HTML line with the verdict on the last reconstruction, in its color; empty while there is none."""
    if record is None or record.verdict is None:
        return ''
    text = html.escape(f'{record.product}: {record.verdict.sentence}')
    return f'<span style="color: {VERDICT_COLORS[record.verdict.word]}">{text}</span>'
