"""Lines of a log, as text or as JSON, and the one that it ends with where a command fails."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime

import click

from .wording import say

META = f'{__name__}.options'  # where the options of the log stand while a command runs
TEXT, JSON = 'text', 'json'


class TextFormatter(logging.Formatter):
    """Lines for people: time of the day, and the message in the command line's words."""

    def format(self, record: logging.LogRecord) -> str:
        """A line; warnings say that they are."""
        level = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
        return f'{datetime.fromtimestamp(record.created):%H:%M:%S} {level}{say(record.getMessage())}'


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time (UTC), level, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """A line; what is not finite is null."""
        values = {
            'time': datetime.fromtimestamp(record.created, UTC).isoformat(timespec='milliseconds'),
            'level': record.levelname.lower(),
            'message': record.getMessage(),
            **getattr(record, 'event', {}),
        }
        finite = {k: v for k, v in values.items() if not isinstance(v, float) or v - v == 0}
        return json.dumps(finite, default=str)


def record_error(error: Exception) -> None:
    """Append what a command ends with to its log file, if there is one: the sentence and the class of the error.

    By the class the reference of errors is found.
    """
    context = click.get_current_context(silent=True)
    options = {} if context is None else context.meta.get(META, {})
    if (path := options.get('log_file')) is None:
        return
    as_json, kind = options.get('log_format') == JSON, type(error).__name__
    text = str(error) if as_json else f'{error} ({kind})'
    record = logging.makeLogRecord(
        {'msg': '%s', 'args': (text,), 'levelno': logging.ERROR, 'levelname': 'ERROR', 'event': {'error': kind}}
    )
    formatter = JsonFormatter() if as_json else TextFormatter()
    with suppress(OSError), path.open('a', encoding='utf-8') as file:  # its own error is told already
        file.write(f'{formatter.format(record)}\n')
