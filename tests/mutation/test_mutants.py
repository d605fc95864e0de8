"""That mutants are what they are called, and that they are imported in the place of their module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutation.mutants import Mutant, compile_mutant, list_mutants

SOURCE = '''
"""About it."""

LIMIT = 3


def is_small(values: list[int], kind: str = 'each') -> bool:
    """Whether all are."""
    if not values:
        raise ValueError(f'nothing of {kind}')
    return all(-value < LIMIT for value in values if value)
'''
WANTED = {
    '3 [4]': True,
    "'each' ['eachXX']": True,
    'not values [without not]': False,
    "raise ValueError(f'nothing of {kind}') [left out]": False,
    'return all((-value < LIMIT for value in values if value)) [returns None]': False,
    '-value < LIMIT [LtE]': False,
    '-value < LIMIT [GtE]': False,
    '-value [UAdd]': False,
    'value [always]': False,
}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module with one function."""
    file = tmp_path / 'small.py'
    file.write_text(SOURCE)
    return file


def test_every_change_is_listed_and_texts_are_left_alone(module: Path) -> None:
    found = {mutant.key.split(': ', 1)[1]: mutant for mutant in list_mutants(module)}
    assert {code: mutant.at_import for code, mutant in found.items()} == WANTED
    assert found['-value < LIMIT [LtE]'].line == 11


@pytest.mark.parametrize(
    ('change', 'values', 'expected'),
    [
        ('3 [4]', [-3], True),
        ('not values [without not]', [1], ValueError),
        ('left out', [], True),
        ('returns None', [-2], None),
        ('[LtE]', [-3], True),
        ('[GtE]', [-2], False),
        ('[UAdd]', [3], False),
    ],
)
def test_a_mutant_does_what_it_says(module: Path, change: str, values: list[int], expected: object) -> None:
    scope: dict[str, object] = {}
    exec(compile_mutant(module, find(module, change).number), scope)
    is_small = scope['is_small']
    assert callable(is_small)
    if expected is ValueError:
        with pytest.raises(ValueError, match='nothing of each'):
            is_small(values)
    else:
        assert is_small(values) is expected


def test_a_child_imports_the_mutant(module: Path) -> None:
    named = f'small {module} {find(module, "[LtE]").number}'
    places = f'{Path(__file__).parent}/mutated:{module.parent}'
    program = 'import small; print(small.is_small([-3]))'
    for mutant, printed in ((named, 'True'), ('other x.py 0', 'False')):
        environment = {**os.environ, 'PYTHONPATH': places, 'PTYCHOPINN_MUTANT': mutant}
        done = subprocess.run([sys.executable, '-P', '-c', program], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == printed, done.stderr


def find(module: Path, change: str) -> Mutant:
    """The mutant of a change."""
    return next(mutant for mutant in list_mutants(module) if change in mutant.key)
