"""What a command says while it works: lines on stderr without a terminal, and a log file, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import OutputError
from ..events import LOGGER
from .app import Decorator, decorate_with
from .log_lines import JSON, META, TEXT, JsonFormatter, TextFormatter


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    ctx.meta.setdefault(META, {})[parameter.name] = value


log_options: Decorator = decorate_with(
    click.option(
        '--verbose', is_flag=True, expose_value=False, callback=_remember,
        help='Lines on stderr in place of a progress bar, one an epoch or a pass; without a terminal they come anyway.',
    ),
    click.option(
        '--log-file', type=click.Path(path_type=Path), expose_value=False, callback=_remember,
        help='File to which these lines are appended, too.',
    ),
    click.option(
        '--log-format', type=click.Choice([TEXT, JSON]), default=TEXT, expose_value=False, callback=_remember,
        help='Of these lines; json: an object each, with time, level, message and the fields of what has happened.',
    ),
)  # fmt: skip
job_output_options: Decorator = decorate_with(
    click.option('--quiet', is_flag=True, help='No progress bar, no lines on stderr, and no summary.'), log_options
)


@contextmanager
def logging_as_asked(*, quiet: bool) -> Iterator[bool]:
    """While a command works its log goes where the options ask for; whether stderr gets lines, not a progress bar."""
    context = click.get_current_context(silent=True)
    options = {} if context is None else context.meta.get(META, {})
    has_lines = not quiet and (bool(options.get('verbose')) or not sys.stderr.isatty())
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)] if has_lines else []
    if (path := options.get('log_file')) is not None:
        try:
            handlers.append(logging.FileHandler(path, encoding='utf-8'))
        except OSError as error:
            raise OutputError(f'Cannot write the log file {path} ({error.strerror}); choose another.') from error
    formatter = JsonFormatter() if options.get('log_format') == JSON else TextFormatter()
    logger = logging.getLogger(LOGGER)
    before, level = logger.propagate, logger.level
    for handler in handlers or [logging.NullHandler()]:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logger.propagate = False  # nothing else of this process is to write on stderr
    logger.setLevel(logging.INFO)
    try:
        yield has_lines
    finally:
        for handler in [*logger.handlers]:
            if handler.formatter is formatter:
                logger.removeHandler(handler)
                handler.close()
        logger.propagate = before
        logger.setLevel(level)
