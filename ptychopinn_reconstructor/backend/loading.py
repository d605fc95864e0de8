"""Backends by entry point, imported on first use: the rest of the package names none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from ..config import BACKEND_NAMES
from ..errors import BackendError
from .interface import Backend

GROUP = 'ptychopinn_reconstructor.backends'


def backend_entry_points() -> dict[str, EntryPoint]:
    """The registered backends by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


# What to look for, and what to install, before a backend's own modules are imported.
_REQUIRED = {'torch': ('torch', 'lightning'), 'tensorflow': ('tensorflow', 'keras')}


def missing_modules(name: str) -> list[str]:
    """What a backend of ours needs and cannot be imported here; nothing is imported to find out."""
    return [module for module in _REQUIRED.get(name, ()) if not _is_there(module)]


def installed() -> list[str]:
    """The registered backends whose frameworks are there, those that `load_backend` can hope to load, by name."""
    return [name for name in sorted(backend_entry_points()) if not missing_modules(name)]


def load_backend(name: str) -> Backend:
    """The backend registered as `name` ('torch', or as in the GUI 'PyTorch').

    Raises BackendError when it is unknown or its framework is not installed; there is never a fallback.
    """
    key = BACKEND_NAMES.get(name, name)
    title = _title(key)
    missing = missing_modules(key)
    if missing:
        raise BackendError(
            f'{title} backend selected, but {" and ".join(missing)} cannot be imported; '
            f"install it with: pip install 'ptychopinn-reconstructor[{key}]'{_alternatives()}"
        )
    points = backend_entry_points()
    if key not in points:
        raise BackendError(
            f'{title} backend selected, but no backend of that name is registered; '
            f'there are: {", ".join(sorted(points)) or "none"}. Choose one, or reinstall ptychopinn-reconstructor.'
        )
    try:
        factory: Callable[[], Backend] = points[key].load()
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise BackendError(
            f'{title} backend selected, but it cannot be imported ({error}); '
            f"reinstall it with: pip install --force-reinstall '{_package(points[key])}'"
        ) from error
    return factory()


def _package(point: EntryPoint) -> str:
    """What to install for a registered backend, for pip: the package that registers it, and our extra."""
    name = point.dist.name if point.dist else point.module.partition('.')[0]
    return f'{name}[{point.name}]' if point.name in _REQUIRED else name


def _title(key: str) -> str:
    """The name of a backend in INI files and in the GUI."""
    return {name: title for title, name in BACKEND_NAMES.items()}.get(key, key)


def _alternatives() -> str:
    """What else can be chosen here, for a command line, an INI file and a program alike; empty when nothing is."""
    there = installed()
    if not there:
        return ''
    options, titles = (' or '.join(names) for names in ([f'--backend {key}' for key in there], map(_title, there)))
    return f', or choose what is installed: {options} ({titles} in INI files, execution.backend in YAML and Python)'


def _is_there(module: str) -> bool:
    """Whether a module would be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or it is a stand-in without a spec
        return False
