"""Frameworks that a test uses, imported when they are first used: collecting the tests imports none."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from ptychopinn_reconstructor.backend import find_missing_modules

BACKENDS = 'ptychopinn_reconstructor.backends'


class _Lazy:
    """Stands for a module, which is imported with the first of its attributes that is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith('_') and attribute != '__name__':  # pytest looks for marks on all that a module holds
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """The module of this name, imported on first use."""
    return _Lazy(name)


def needs(*backends: str) -> pytest.MarkDecorator:
    """Skip where the framework of one of these backends is not installed, and name what is missing."""
    missing = [module for name in backends for module in find_missing_modules(name)]
    return pytest.mark.skipif(bool(missing), reason=f'{" and ".join(missing)} cannot be imported')
