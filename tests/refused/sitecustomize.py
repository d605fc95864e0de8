"""With this folder on PYTHONPATH, the packages that PTYCHOPINN_REFUSE names cannot be imported, in children neither."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Refuse(MetaPathFinder):
    """Finds nothing, and lets nobody else find it."""

    names = frozenset(os.environ.get('PTYCHOPINN_REFUSE', '').split())

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """ModuleNotFoundError for the names that are refused."""
        if fullname.partition('.')[0] in self.names:
            raise ModuleNotFoundError(f'No module named {fullname!r}', name=fullname)
        return None


sys.meta_path.insert(0, Refuse())
