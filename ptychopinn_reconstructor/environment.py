"""What is installed here: versions, backends with their devices, and the host application."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from . import __version__

PACKAGES = (
    'numpy', 'scipy', 'h5py', 'hdf5plugin', 'tifffile', 'matplotlib', 'pydantic', 'safetensors', 'click', 'rich',
    'pyyaml', 'torch', 'lightning', 'tensorflow', 'tensorflow-cpu', 'keras', 'onnxruntime', 'onnxruntime-gpu',
    'tensorboard', 'mlflow', 'ptychodus',
)  # fmt: skip


Tell = Callable[[str], None]


def examine(*, quick: bool = False, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Versions, backends and host as plain JSON types; `quick` imports no framework and lists no devices.

    `tell` hears which framework is being imported, which takes seconds.
    """
    from .backend import find_entry_points

    return {
        'ptychopinn_reconstructor': __version__,
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cpus': os.cpu_count(),
        'packages': {name: result for name in PACKAGES if (result := installed_version(name)) is not None},
        'backends': {name: examine_backend(name, quick=quick, tell=tell) for name in sorted(find_entry_points())},
        'ptychodus': examine_host(),
    }


def installed_version(package: str) -> str | None:
    """Version of an installed distribution, None when it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine_backend(
    name: str, *, quick: bool = False, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Whether a registered backend is usable, why not, its devices and the versions that were imported.

    Usable means that all that it requires can be imported, also what only a training imports.
    """
    from .backend import describe, load_backend

    result: dict[str, Any] = {'installed': False, 'reason': '', 'devices': [], 'versions': {}}
    if quick:
        reason = find_obstacle(name)
        return result | {'installed': not reason, 'reason': reason}
    tell(f'Importing the backend {name} ...')
    try:
        backend = load_backend(name)
        for module in describe(name).requires:
            import_module(module)
        return result | {'installed': True, 'devices': backend.devices(), 'versions': backend.versions()}
    except Exception as error:  # a broken installation may raise anything, and reporting it is the purpose here
        return result | {'reason': ' '.join(str(error).split()) or type(error).__name__}


def find_obstacle(name: str) -> str:
    """Why a backend cannot be loaded, as far as known without importing it; '' where nothing stands against it."""
    from .backend import describe, find_missing_modules
    from .errors import BackendError

    try:
        described = describe(name)
    except BackendError as error:
        return str(error)
    missing = find_missing_modules(name)
    return f'{" and ".join(missing)} cannot be imported' if missing else described.obstacle()


def examine_host() -> dict[str, Any]:
    """Whether Ptychodus is installed; our wheel alone makes `ptychodus` an empty namespace, which does not count."""
    spec = find_spec('ptychodus')
    number = installed_version('ptychodus')
    return {'found': number is not None and spec is not None and spec.origin is not None, 'version': number}
