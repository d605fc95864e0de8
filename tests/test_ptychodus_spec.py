"""specs/ptychodus_api_spec.md: numbered without gaps, every clause with its tests, every test and clause there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = (ROOT / 'specs' / 'ptychodus_api_spec.md').read_text(encoding='utf-8')
SUITE = ROOT / 'ptychopinn_reconstructor' / 'host' / 'conformance'
OVER_ANY = 'tests/host/test_reconstructor_conformance.py'
CLAUSES = re.findall(r'^- \*\*P(\d+)\*\* (.*?)(?=^- |^## |\Z)', SPEC, re.MULTILINE | re.DOTALL)
FILE = re.compile(r'`(tests/[\w/]+\.py)`(?:\s+\(([\w,\s]+)\))?')


def source_of(file: str) -> str:
    """What may define a test of that file: for the checks over any reconstructor, the suite too."""
    paths = [ROOT / file, *(sorted(SUITE.glob('*.py')) if file == OVER_ANY else ())]
    return '\n'.join(path.read_text(encoding='utf-8') for path in paths)


def test_the_clauses_are_numbered_without_gaps() -> None:
    assert len(CLAUSES) > 50
    assert [int(number) for number, _ in CLAUSES] == list(range(1, len(CLAUSES) + 1))


@pytest.mark.parametrize(('number', 'text'), CLAUSES, ids=[f'P{number}' for number, _ in CLAUSES])
def test_every_clause_names_tests_that_exist(number: str, text: str) -> None:
    statement, _, tests = text.partition('*Tests:*')
    assert len(statement.split()) > 10
    named = FILE.findall(tests)
    assert named, f'P{number} names no test'
    for file, names in named:
        assert (ROOT / file).is_file(), f'P{number} names {file}, which does not exist'
        for name in re.findall(r'\w+', names):
            assert f'def test_{name}(' in source_of(file), f'P{number} names {name}, which {file} does not have'


def test_every_check_over_any_reconstructor_names_its_clauses() -> None:
    """And each of these clauses names the check."""
    texts = {f'P{number}': text for number, text in CLAUSES}
    checks = re.findall(r'    def test_(\w+)\(.*?"""(.*?)"""', source_of(OVER_ANY), re.DOTALL)
    assert len(checks) > 15
    for name, docstring in checks:
        cited = re.findall(r'\bP\d+\b', docstring.partition(':')[0])
        assert cited, f'{name} names no clause'
        assert any(re.search(rf'\b{name}\b', texts[clause]) for clause in cited), f'{name} is named by none of {cited}'
