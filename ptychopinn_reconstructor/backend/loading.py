"""Backends by entry point, described before they are imported: the rest of the package names none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from ..errors import BackendError
from .description import BackendDescription, resolve
from .interface import Backend

GROUP = 'ptychopinn_reconstructor.backends'


def backend_entry_points() -> dict[str, EntryPoint]:
    """The registered backends by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def descriptions() -> dict[str, BackendDescription]:
    """What the registered backends say of themselves, by name in the order of their titles; no framework is imported.

    One that cannot be read is left out; `load_backend` says why.
    """
    found = []
    for point in backend_entry_points().values():
        try:
            found.append(_read(point))
        except BackendError:
            continue
    return {one.name: one for one in sorted(found, key=lambda one: one.title.casefold())}


def name_of(backend: str) -> str:
    """The entry-point name of a backend that is named by it or by its title; an unknown one stays as it is."""
    return {one.title: one.name for one in descriptions().values()}.get(backend, backend)


def title_of(name: str) -> str:
    """The title of a backend in INI files and in the GUI; an unknown one has its name."""
    found = descriptions().get(name)
    return found.title if found else name


def missing_modules(name: str) -> list[str]:
    """What a registered backend needs and cannot be imported here; nothing is imported to find out."""
    found = descriptions().get(name)
    return [module for module in (found.requires if found else ()) if not _is_there(module)]


def installed() -> list[str]:
    """The described backends whose frameworks are there, those that `load_backend` can hope to load, by name."""
    return [name for name in descriptions() if not missing_modules(name)]


def load_backend(name: str) -> Backend:
    """The backend registered as `name` ('torch'), or with it as its title ('PyTorch').

    Raises BackendError when it is unknown or its framework is not installed; there is never a fallback.
    """
    described = describe(name_of(name))
    if missing := missing_modules(described.name):
        raise BackendError(
            f'{described.title} backend selected, but {" and ".join(missing)} cannot be imported; '
            f"install it with: pip install '{described.install}'{_alternatives()}"
        )
    if reason := described.obstacle():
        raise BackendError(f'{described.title} backend selected, but {reason}.')
    try:
        factory: Callable[[], Backend] = resolve(described.backend)
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise _unusable(described.title, str(error), described.install) from error
    return factory()


def describe(name: str) -> BackendDescription:
    """The description of a backend by its entry-point name; BackendError when there is none, or it cannot be read."""
    points = backend_entry_points()
    if name not in points:
        raise BackendError(
            f'{name} backend selected, but no backend of that name is registered; '
            f'there are: {", ".join(sorted(points)) or "none"}. Choose one, or reinstall ptychopinn-reconstructor.'
        )
    return _read(points[name])


def _read(point: EntryPoint) -> BackendDescription:
    """The description that an entry point names."""
    package = point.dist.name if point.dist else point.module.partition('.')[0]
    try:
        found = point.load()
    except (ImportError, AttributeError, OSError) as error:
        raise _unusable(point.name, str(error), package) from error
    if not isinstance(found, BackendDescription) or found.name != point.name:
        raise _unusable(point.name, f'{point.value} is no BackendDescription of that name', package)
    return found


def _unusable(title: str, reason: str, package: str) -> BackendError:
    return BackendError(
        f'{title} backend selected, but it cannot be imported ({reason}); '
        f"reinstall it with: pip install --force-reinstall '{package}'"
    )


def _alternatives() -> str:
    """What else can be chosen here, for a command line, an INI file and a program alike; empty when nothing is."""
    there = installed()
    if not there:
        return ''
    options, titles = (' or '.join(n) for n in ([f'--backend {key}' for key in there], map(title_of, there)))
    return f', or choose what is installed: {options} ({titles} in INI files, execution.backend in YAML and Python)'


def _is_there(module: str) -> bool:
    """Whether a module would be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or it is a stand-in without a spec
        return False
