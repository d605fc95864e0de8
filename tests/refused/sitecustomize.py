"""With this folder on PYTHONPATH, the packages that PTYCHOPINN_REFUSE names are not found, by children neither."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class Hide(PathFinder):
    """Python's own search of the path, blind for some names: they are absent, as where they are not installed."""

    names = frozenset(os.environ.get('PTYCHOPINN_REFUSE', '').split())

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for the names that are hidden."""
        hidden = fullname.partition('.')[0] in cls.names
        return None if hidden else super().find_spec(fullname, path, target)


sys.meta_path[:] = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
