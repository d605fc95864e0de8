"""The specifications and the tests name each other: clauses numbered without gaps, each with tests that are there.

Reads texts alone, in milliseconds: `make lint` runs it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPEC = (ROOT / 'specs' / 'ptychodus_api_spec.md').read_text(encoding='utf-8')
SUITE = ROOT / 'ptychopinn_reconstructor' / 'host' / 'conformance'
OVER_ANY = 'tests/host/test_reconstructor_conformance.py'
CLAUSES = re.findall(r'^- \*\*P(\d+)\*\* (.*?)(?=^- |^## |\Z)', SPEC, re.MULTILINE | re.DOTALL)
FILE = re.compile(r'`(tests/[\w/]+\.py)`(?:\s+\(([\w,\s]+)\))?')

RULES = re.findall(r'^- \*\*([A-Z]+)\*\* ', (ROOT / 'specs' / 'rules.md').read_text(encoding='utf-8'), re.MULTILINE)


@cache
def source_of(file: str) -> str:
    """What may define a test of that file: for the checks over any reconstructor, the suite too."""
    paths = [ROOT / file, *(sorted(SUITE.glob('*.py')) if file == OVER_ANY else ())]
    return '\n'.join(path.read_text(encoding='utf-8') for path in paths)


def test_the_clauses_are_numbered_without_gaps() -> None:
    assert len(CLAUSES) > 50
    assert [int(number) for number, _ in CLAUSES] == list(range(1, len(CLAUSES) + 1))


def test_every_clause_names_tests_that_exist() -> None:
    """Each with a statement, and with at least one file of tests."""
    missing = []
    for number, text in CLAUSES:
        statement, _, tests = text.partition('*Tests:*')
        named = FILE.findall(tests)
        if len(statement.split()) <= 10 or not named:
            missing.append(f'P{number} states too little or names no test')
        for file, names in named:
            if not (ROOT / file).is_file():
                missing.append(f'P{number} names {file}, which does not exist')
                continue
            defined = source_of(file)
            missing += [
                f'P{number} names {name}, which {file} does not have'
                for name in re.findall(r'\w+', names)
                if f'def test_{name}(' not in defined
            ]
    assert not missing, '\n'.join(missing)


def test_every_check_over_any_reconstructor_names_its_clauses() -> None:
    """And each of these clauses names the check."""
    texts = {f'P{number}': text for number, text in CLAUSES}
    checks = re.findall(r'    def test_(\w+)\(.*?"""(.*?)"""', source_of(OVER_ANY), re.DOTALL)
    assert len(checks) > 15
    for name, docstring in checks:
        cited = re.findall(r'\bP\d+\b', docstring.partition(':')[0])
        assert cited, f'{name} names no clause'
        assert any(re.search(rf'\b{name}\b', texts[clause]) for clause in cited), f'{name} is named by none of {cited}'


def test_every_rule_is_named_by_the_test_that_checks_it() -> None:
    """A rule begins the docstring of a test, alone or among others and clauses: 'DENSE: ...', 'B15, DENSE: ...'."""
    folders = (ROOT / 'tests', ROOT / 'ptychopinn_reconstructor' / 'conformance')
    tests = '\n'.join(path.read_text(encoding='utf-8') for folder in folders for path in sorted(folder.rglob('*.py')))
    assert len(RULES) == len({*RULES}) > 20
    unnamed = [rule for rule in RULES if not re.search(rf'"""([A-Z0-9]+, )*{rule}(, [A-Z0-9]+)*: ', tests)]
    assert not unnamed, f'no test names the rules {unnamed}'


def test_every_promise_of_security_names_tests_that_exist() -> None:
    """But for the three that state what is not promised, and the network, whose absence the sources show."""
    text = (ROOT / 'specs' / 'security.md').read_text(encoding='utf-8')
    promises = re.findall(r'^- \*\*S(\d+)\*\* (.*?)(?=^- |^#|\Z)', text, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in promises] == list(range(1, len(promises) + 1)) and len(promises) > 15
    untested = [number for number, promise in promises if '*Tests:*' not in promise]
    assert untested == ['5', '7', '20']
    named = [file for _, promise in promises for file in re.findall(r'`(tests/[\w/]+\.py)`', promise)]
    assert len(named) > 15 and not [file for file in named if not (ROOT / file).is_file()]
