"""Importing one module of the package as a mutant, in a process and in those that it starts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from .mutants import compile_mutant


class MutantFinder:
    """Finds one module, in the place of Python's own search; it comes first on sys.meta_path."""

    def __init__(self, module: str, file: str, number: int) -> None:
        self.module, self.file, self.number = module, file, number

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module with its change; None for all others."""
        if fullname != self.module:
            return None
        places = [str(Path(self.file).parent)] if Path(self.file).name == '__init__.py' else None
        loader = _MutantLoader(fullname, self.file, self.number)
        return spec_from_file_location(fullname, self.file, loader=loader, submodule_search_locations=places)


class _MutantLoader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, number: int) -> None:
        super().__init__(fullname, path)
        self.number = number

    def get_code(self, fullname: str) -> CodeType:
        return compile_mutant(Path(self.path), self.number)


def import_mutant(named: str) -> None:
    """Import a module as a mutant from here on; `named` is 'MODULE FILE NUMBER'."""
    module, file, number = named.split(' ')
    sys.meta_path.insert(0, MutantFinder(module, file, int(number)))
