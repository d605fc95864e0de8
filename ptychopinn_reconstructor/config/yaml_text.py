"""YAML of others: whatever is wrong with it is one ConfigError, and what it holds is plain and not too deep."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError, shorten

MAX_TEXT = 2**20  # characters; the whole configuration has 6,000
MAX_VALUES, MAX_DEPTH = 100_000, 20  # with every alias counted where it stands


def parse_yaml(text: str, name: str, remedy: str) -> Any:
    """The plain values of a YAML text; `name` and `remedy` are those of the sentence.

    Raises ConfigError when it is no YAML, too large, or nested too deep.
    """
    import yaml

    if len(text) > MAX_TEXT:
        raise ConfigError(f'{name} is {len(text):,} characters long, more than {MAX_TEXT:,}; {remedy}.')
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        line = f' in line {mark.line + 1}' if mark else ''
        reason = shorten(getattr(error, 'problem', None) or error)
        raise ConfigError(f'{name} is not valid YAML{line} ({reason}); {remedy}.') from error
    except Exception as error:  # the constructors of dates and numbers, and the depth of the parser
        raise ConfigError(f'{name} is not valid YAML ({type(error).__name__}: {shorten(error)}); {remedy}.') from error
    if _count_values(values, MAX_DEPTH, MAX_VALUES) > MAX_VALUES:
        raise ConfigError(f'{name} holds more than {MAX_VALUES:,} values or {MAX_DEPTH} levels; {remedy}.')
    return values


def _count_values(values: Any, depth: int, most: int) -> int:
    """How many values there are, each alias counted where it stands; more than `most` as soon as that is certain."""
    parts = [*values.keys(), *values.values()] if isinstance(values, dict) else values
    if not isinstance(parts, list):
        return 1
    found = 1 if depth else most + 1
    for part in parts:
        if found > most:
            break
        found += _count_values(part, depth - 1, most - found)
    return found
