"""Finding, describing and loading backends by their entry points."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from ..config import Config
from ..errors import BackendError, ConfigError
from .capabilities import Capability, list_requests
from .description import BackendDescription, resolve
from .interface import Backend

GROUP = 'ptychopinn_reconstructor.backends'


def find_entry_points() -> dict[str, EntryPoint]:
    """Entry points of the registered backends by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def describe_backends() -> dict[str, BackendDescription]:
    """What the registered backends say of themselves, by name; no framework is imported.

    In the order of their titles, those that train first. One that cannot be read is left out; `load_backend` says why.
    """
    described = []
    for point in find_entry_points().values():
        try:
            described.append(_read(point))
        except BackendError:
            continue
    return {one.name: one for one in sorted(described, key=lambda one: (not one.trains, one.title.casefold()))}


def resolve_name(backend: str) -> str:
    """Entry-point name of a backend given by that name or by its title; an unknown one is returned unchanged."""
    return {one.title: one.name for one in describe_backends().values()}.get(backend, backend)


def resolve_title(name: str) -> str:
    """Title of a backend in INI files and in the GUI; the name itself if unknown."""
    described = describe_backends().get(name)
    return described.title if described else name


def find_missing_modules(name: str) -> list[str]:
    """Modules that a registered backend needs and that are not installed; nothing is imported."""
    described = describe_backends().get(name)
    return [module for module in (described.requires if described else ()) if not _can_import(module)]


def installed(*, training: bool = False) -> list[str]:
    """Names of the described backends whose frameworks are installed; with `training` of those that train."""
    found = describe_backends().items()
    return [name for name, one in found if one.trains >= training and not find_missing_modules(name)]


def load_backend(name: str) -> Backend:
    """Backend registered as `name` ('torch') or with that title ('PyTorch').

    Raises BackendError when it is unknown or its framework is not installed; there is never a fallback.
    """
    return _load(describe(resolve_name(name)), installed())


def _load(described: BackendDescription, alternatives: list[str]) -> Backend:
    """Backend that is described; `alternatives` are offered where it is not installed."""
    if missing := find_missing_modules(described.name):
        offer = f', or choose what is installed: {_name_options(alternatives)}' if alternatives else ''
        raise BackendError(
            f'{described.title} backend selected, but {" and ".join(missing)} cannot be imported; '
            f"install it with: pip install '{described.install}'{offer}"
        )
    if reason := described.obstacle():
        raise BackendError(f'{described.title} backend selected, but {reason}.')
    try:
        factory: Callable[[], Backend] = resolve(described.backend)
    except (ImportError, OSError) as error:  # OSError: a shared library of the framework is missing
        raise _make_error(described.title, str(error), described.install) from error
    return factory()


def load_trainer(name: str) -> Backend:
    """As `load_backend`; BackendError also where that backend leaves training out."""
    described = describe(resolve_name(name))
    check_capability(described, Capability.TRAINING)
    return _load(described, installed(training=True))


def load_trainer_for(config: Config, *, resume: bool) -> Backend:
    """Backend that a training asks for; also ConfigError or BackendError where it asks for what that one leaves out."""
    backend = load_trainer(config.execution.backend)
    described = describe(backend.name)
    check_requests(described, config, training=True)
    if resume:
        check_capability(described, Capability.RESUMING)
    return backend


def check_capability(described: BackendDescription, capability: Capability) -> None:
    """Raise BackendError, which names the backends that have it, where a backend leaves a capability out."""
    if capability not in described.capabilities:
        raise BackendError(f'The {described.title} backend leaves out {capability}; {_offer_others(capability)}.')


def check_requests(described: BackendDescription, config: Config, *, training: bool) -> None:
    """Raise ConfigError where a setting asks for what a backend leaves out, of a training or of a network alone."""
    for request in list_requests(config, training=training):
        if request.capability not in described.capabilities:
            raise ConfigError(
                f'{request.setting} is {request.value}, but the {described.title} backend leaves out '
                f'{request.capability}; set it to {request.default}, or {_offer_others(request.capability)}.'
            )


def _offer_others(capability: Capability) -> str:
    able = [name for name, one in describe_backends().items() if capability in one.capabilities]
    return f'choose one that has it: {_name_options(able)}; the model file is the same'


def describe(name: str) -> BackendDescription:
    """Description of a backend by its entry-point name; BackendError if there is none, or it cannot be read."""
    points = find_entry_points()
    if name not in points:
        raise BackendError(
            f'{name} backend selected, but no backend of that name is registered; '
            f'there are: {", ".join(sorted(points)) or "none"}. Choose one, or reinstall ptychopinn-reconstructor.'
        )
    return _read(points[name])


def _read(point: EntryPoint) -> BackendDescription:
    """Description that an entry point names."""
    package = point.dist.name if point.dist else point.module.partition('.')[0]
    try:
        described = point.load()
    except (ImportError, AttributeError, OSError) as error:
        raise _make_error(point.name, str(error), package) from error
    if not isinstance(described, BackendDescription) or described.name != point.name:
        raise _make_error(point.name, f'{point.value} is no BackendDescription of that name', package)
    return described


def _make_error(title: str, reason: str, package: str) -> BackendError:
    return BackendError(
        f'{title} backend selected, but it cannot be imported ({reason}); '
        f"reinstall it with: pip install --force-reinstall '{package}'"
    )


def _name_options(names: list[str]) -> str:
    """Backends to choose from, by name and title."""
    options, titles = (
        ' or '.join(words) for words in ([f'execution.backend={name}' for name in names], map(resolve_title, names))
    )
    return f'{options} ({titles} in INI files)'


def _can_import(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or it is a stand-in without a spec
        return False
