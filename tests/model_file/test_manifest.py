"""Every entry of the manifest is strict: generated from its schema, none may be missing, added or of another type."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from model_files import N, description, parts
from pydantic import ValidationError

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.model_file.format import decode
from ptychopinn_reconstructor.model_file.manifest import Manifest, parse_manifest
from ptychopinn_reconstructor.model_file.writing import write_model

SCHEMA = Manifest.model_json_schema()
EXAMPLES: dict[str, Any] = {
    'null': None,
    'boolean': True,
    'integer': 3,
    'number': 2.5,
    'string': 'text',
    'array': [],
    'object': {},
}
Where = tuple[str | int, ...]


@pytest.fixture(scope='module')
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Plain JSON types; nothing in it is null or empty, so that each entry is seen."""
    return decode(write_model(tmp_path_factory.mktemp('model') / 'model.safetensors', **parts()))[0]


def resolved(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema."""
    if '$ref' in schema:
        return resolved(SCHEMA['$defs'][schema['$ref'].rpartition('/')[2]])
    return [found for one in schema.get('anyOf', [schema]) for found in (resolved(one) if one is not schema else [one])]


def entries(schema: dict[str, Any], where: Where = ()) -> Iterator[tuple[Where, set[str]]]:
    """Every entry with the JSON types that it may have; those of an array are seen at its first place."""
    found = resolved(schema)
    yield where, {one.get('type', 'string' if 'const' in one or 'enum' in one else 'any') for one in found}
    for one in found:
        for name, inner in one.get('properties', {}).items():
            yield from entries(inner, (*where, name))
        inside = one.get('prefixItems') or ([one['items']] if 'items' in one else [])
        for number, inner in enumerate(inside):
            yield from entries(inner, (*where, number))


ENTRIES = list(entries(SCHEMA))
KEYS = [where for where, _ in ENTRIES if where and isinstance(where[-1], str)]
OBJECTS = [where for where, types in ENTRIES if 'object' in types and where != ('versions',)]


def of(manifest: dict[str, Any], where: Where) -> Any:
    found: Any = manifest
    for key in where:
        found = found[key]
    return found


def refused(manifest: dict[str, Any]) -> str:
    with pytest.raises(ModelFileError) as caught:
        parse_manifest(manifest, "'m.safetensors'")
    sentence = str(caught.value)
    assert sentence.endswith('.') and '\n' not in sentence and 'm.safetensors' in sentence
    return sentence


def test_the_schema_was_read(manifest: dict[str, Any]) -> None:
    """The checks below would pass on anything if this reader saw nothing."""
    assert len(KEYS) > 55 and len(OBJECTS) == 8
    assert (('training', 'losses', 0, 1), {'number'}) in ENTRIES
    assert (('scaling', 'refined_from'), {'string', 'null'}) in ENTRIES
    names: list[Where] = [
        (section, name) for section, values in manifest.items() if isinstance(values, dict) for name in values
    ]
    unseen = [where for where in names if where[0] not in ('config', 'versions') and where not in KEYS]
    assert unseen == [] and parse_manifest(manifest, '').to_json() == manifest


@pytest.mark.parametrize('where', KEYS, ids=lambda where: '.'.join(map(str, where)))
def test_no_entry_may_be_missing(manifest: dict[str, Any], where: Where) -> None:
    changed = copy.deepcopy(manifest)
    del of(changed, where[:-1])[where[-1]]
    assert str(where[-1]).replace('_', ' ') in refused(changed).replace('_', ' ')


@pytest.mark.parametrize('where', OBJECTS, ids=lambda where: '.'.join(map(str, where)) or 'manifest')
def test_no_entry_may_be_added(manifest: dict[str, Any], where: Where) -> None:
    changed = copy.deepcopy(manifest)
    of(changed, where)['surplus'] = 1
    assert '.'.join(map(str, (*where, 'surplus'))) in refused(changed)


@pytest.mark.parametrize(
    ('where', 'types'),
    ENTRIES[1:],
    ids=lambda value: '.'.join(sorted(map(str, value)) if isinstance(value, set | frozenset) else map(str, value)),
)
def test_no_entry_may_be_of_another_type(manifest: dict[str, Any], where: Where, types: set[str]) -> None:
    if where == ('config',):
        types = {'object'}
    admitted = types | ({'integer'} if 'number' in types else set())
    for name, example in EXAMPLES.items():
        if name not in admitted:
            changed = copy.deepcopy(manifest)
            of(changed, where[:-1])[where[-1]] = example
            refused(changed)


@pytest.mark.parametrize('section', ['model', 'data', 'training', 'inference', 'execution'])
def test_every_setting_of_the_configuration_is_checked(manifest: dict[str, Any], section: str) -> None:
    for name in manifest['config'][section]:
        changed = copy.deepcopy(manifest)
        changed['config'][section][name] = {'no': 'setting'}
        assert f'{section}.{name}' in refused(changed)
    changed = copy.deepcopy(manifest)
    changed['config'][section]['surplus'] = 1
    assert f'{section}.surplus' in refused(changed)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_numbers_are_finite(value: float) -> None:
    config = Config().merged({'model': {'N': N}})
    good = description(config, parameters=1)
    for name in ('power_ratio', 'mean_counts', 'amplitude_unit'):
        with pytest.raises(ValidationError, match='finite'):
            type(good.scaling)(**{**dict(good.scaling), name: value})
    for change in ({'residual': value}, {'losses': ((1, value),)}, {'cpu_seconds': value}):
        with pytest.raises(ValidationError, match='finite'):
            type(good.training)(**{**dict(good.training), **change})
