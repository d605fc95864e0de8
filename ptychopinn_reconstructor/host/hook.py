"""Installation into an unmodified Ptychodus, by wrapping the constructors of its library list and of its panels.

The host has no slot for reconstructors, so `ProcessingCore.__init__` gets our library appended to its argument, and
`ProcessingController.__init__`, when the window imports it, our panel. What does not fit is left alone: one warning
with the reason, and the host starts.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import PtychoPINNError

if TYPE_CHECKING:
    from .library import PtychoPINNLibrary

CORE, CONTROLLER = 'ptychodus.model.processing.core', 'ptychodus.controller.processing.core'
CORE_NEEDS = {'settings_registry', 'algorithm_libraries', 'task_manager', 'product_api'}
CONTROLLER_NEEDS = {'processing_api', 'file_dialog_factory', 'view_controller_factories'}
OLDEST, TESTED = (1, 6), (1, 7)
MARK, LIBRARY = '_ptychopinn_wrapped', '_ptychopinn_library'
logger = logging.getLogger('ptychopinn_reconstructor')


class HostMismatch(PtychoPINNError):  # noqa: N818 - says what is wrong with the host
    """Raised if the plugin does not fit this Ptychodus."""


@functools.cache  # the launcher or a script may have called it before the plugin does: one warning, not two
def install() -> None:
    """Wrap the host's constructors, once; a failure is one logged warning."""
    try:
        _install()
    except Exception as error:  # never may our presence keep the host from starting
        logger.warning('PtychoPINN is not available in Ptychodus: %s', _format_error(error))


def _install() -> None:
    _check_version()
    core = _find_class(CORE, 'ProcessingCore')
    if getattr(core.__init__, MARK, False):
        return
    _check_parameters(core, CORE_NEEDS)
    _check_reconstructor()
    _wrap(core, _init_with_library)
    if CONTROLLER in sys.modules:
        _wrap_controller(sys.modules[CONTROLLER])
    else:
        sys.meta_path.insert(0, _PostImportFinder(CONTROLLER, _wrap_controller))


def _check_version() -> None:
    try:
        number = version('ptychodus')
    except PackageNotFoundError:
        raise HostMismatch("Ptychodus is not installed; install it with: pip install 'ptychodus[gui]'") from None
    parts = tuple(int(part) for part in re.findall(r'\d+', number)[:2])
    if parts < OLDEST:
        raise HostMismatch(f'Ptychodus {number} is too old, 1.6 or newer is needed: pip install -U ptychodus.')
    if parts > TESTED:
        logger.warning('Ptychodus %s is newer than the last release that PtychoPINN was tested with (1.7).', number)


def _find_class(module: str, name: str) -> Any:
    resolved = getattr(importlib.import_module(module), name, None)
    if not inspect.isclass(resolved):
        raise HostMismatch(f'its {module} has no class {name}; update ptychopinn-reconstructor.')
    return resolved


def _check_parameters(wrapped: Any, needed: set[str]) -> None:
    missing = needed - inspect.signature(wrapped.__init__).parameters.keys()
    if missing:
        raise HostMismatch(
            f'its {wrapped.__name__} takes no {", ".join(sorted(missing))}; update ptychopinn-reconstructor.'
        )


def _check_reconstructor() -> None:
    from .library import PtychoPINNLibrary
    from .reconstructor import PtychoPINNReconstructor

    for ours in (PtychoPINNReconstructor, PtychoPINNLibrary):
        missing: frozenset[str] = getattr(ours, '__abstractmethods__', frozenset())
        if missing:
            raise HostMismatch(
                f'its reconstructors need {", ".join(sorted(missing))}, which this plugin does not have; '
                'update ptychopinn-reconstructor.'
            )


Wrapper = Callable[..., None]


def _wrap(wrapped: Any, around: Callable[[Wrapper, Any, inspect.BoundArguments], None]) -> None:
    """Replace a class's constructor by `around(original, self, arguments)`."""
    original = wrapped.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def constructor(self: Any, *args: Any, **kwargs: Any) -> None:
        around(original, self, signature.bind(self, *args, **kwargs))

    setattr(constructor, MARK, True)
    wrapped.__init__ = constructor


def _init_with_library(original: Wrapper, core: Any, bound: inspect.BoundArguments) -> None:
    """Run `ProcessingCore.__init__` with our library added, then connect it with the session."""
    library: PtychoPINNLibrary | None = None
    try:
        from .library import PtychoPINNLibrary as Library

        library = Library(bound.arguments['settings_registry'])
        bound.arguments['algorithm_libraries'] = [*bound.arguments['algorithm_libraries'], library]
    except Exception as error:  # a host without our library is better than none
        logger.warning('PtychoPINN is not available in Ptychodus: %s', _format_error(error))
    original(*bound.args, **bound.kwargs)
    if library is None:
        return
    try:
        from .connection import connect

        connect(core, library, bound.arguments['task_manager'], bound.arguments['product_api'])
        setattr(core.processing_api, LIBRARY, library)
    except Exception as error:
        logger.warning('PtychoPINN works in Ptychodus without Stop and previews: %s', _format_error(error))


def _wrap_controller(module: ModuleType) -> None:
    try:
        controller = module.ProcessingController
        _check_parameters(controller, CONTROLLER_NEEDS)
        _wrap(controller, _init_with_panel)
    except Exception as error:
        logger.warning('PtychoPINN has no panel in Ptychodus: %s', _format_error(error))


def _init_with_panel(original: Wrapper, controller: Any, bound: inspect.BoundArguments) -> None:
    """Run `ProcessingController.__init__` with our panel added."""
    library = getattr(bound.arguments['processing_api'], LIBRARY, None)
    if library is not None:
        try:
            from .window.factory import PanelFactory

            panel = PanelFactory(library, bound.arguments['file_dialog_factory'])
            bound.arguments['view_controller_factories'] = [*bound.arguments['view_controller_factories'], panel]
        except Exception as error:
            logger.warning('PtychoPINN has no panel in Ptychodus: %s', _format_error(error))
    original(*bound.args, **bound.kwargs)
    if library is not None:
        try:
            from .window.follow import follow_jobs

            follow_jobs(controller, library)
        except Exception as error:
            logger.warning('PtychoPINN does not follow its jobs in the window of Ptychodus: %s', _format_error(error))


class _PostImportFinder(MetaPathFinder):
    """Finder that runs `then(module)` once, right after the module of this name is imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name, self.then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of the module, with a wrapped loader."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _PostImportLoader(spec.loader, self.then)
        return spec


class _PostImportLoader(Loader):
    """Loader that delegates to another and then calls a function on the module."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self.loader, self.then = loader, then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the wrapped loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the wrapped loader does; then the function."""
        self.loader.exec_module(module)
        self.then(module)


def _format_error(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return text if isinstance(error, PtychoPINNError) else f'{type(error).__name__}: {text}'
