"""Mutants in functions that are imported already: their code is put in the place of the function's, in a forked child.

So the tests are collected once, and a mutant costs no more than its tests.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from .mutants import Mutant, compile_mutant

Code = dict[tuple[str, int], CodeType]


class Server:
    """A plugin of pytest that, in the place of running the tests, calls a function with the session."""

    def __init__(self, serve: Callable[[pytest.Session], None]) -> None:
        self.serve = serve

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve; nothing else is to be run."""
        self.serve(session)
        return True


def swap_code(file: Path, mutant: Mutant) -> bool:
    """Give all functions of a module the code of a mutant; False, and nothing is sure, where one cannot take it."""
    codes, twice = _collect_codes(compile_mutant(file, mutant.number))
    for function in [item for item in gc.get_objects() if isinstance(item, FunctionType)]:
        old = function.__code__
        if old.co_filename == str(file):
            key = (old.co_qualname, old.co_firstlineno)
            new = codes.get(key)
            if new is None or key in twice or new.co_freevars != old.co_freevars:
                return False
            function.__code__ = new
    return True


def _collect_codes(code: CodeType) -> tuple[Code, set[tuple[str, int]]]:
    """Codes by name and first line, and what of these is there twice."""
    found: Code = {}
    twice = set()
    for one in _iterate_codes(code):
        key = (one.co_qualname, one.co_firstlineno)
        if key in found:
            twice.add(key)
        found[key] = one
    return found, twice


def _iterate_codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _iterate_codes(constant)


def run_items(session: pytest.Session, tests: list[str]) -> int:
    """1 at the first of some tests that fails, 0 when all pass, 5 when one is not collected."""
    by_name = {item.nodeid: item for item in session.items}
    items = [by_name[test] for test in tests if test in by_name]
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0 if len(items) == len(tests) else 5
