"""What is installed here: versions, backends with their devices, and the host application."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import __version__
from .config import BACKEND_NAMES

PACKAGES = (
    'numpy', 'scipy', 'h5py', 'matplotlib', 'pydantic', 'safetensors', 'click', 'rich', 'pyyaml',
    'torch', 'lightning', 'tensorflow', 'tensorflow-cpu', 'keras', 'tensorboard', 'mlflow', 'ptychodus',
)  # fmt: skip


def examine(*, quick: bool = False) -> dict[str, Any]:
    """Versions, backends and host as plain JSON types; `quick` imports no framework and lists no devices."""
    from .backend import backend_entry_points

    names = sorted({*BACKEND_NAMES.values(), *backend_entry_points()})
    return {
        'ptychopinn_reconstructor': __version__,
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cpus': os.cpu_count(),
        'packages': {name: found for name in PACKAGES if (found := installed_version(name)) is not None},
        'backends': {name: examine_backend(name, quick=quick) for name in names},
        'ptychodus': examine_host(),
    }


def installed_version(package: str) -> str | None:
    """Version of an installed distribution, None when it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine_backend(name: str, *, quick: bool = False) -> dict[str, Any]:
    """Whether a backend is registered and usable, why not, its devices and the versions that were imported."""
    from .backend import backend_entry_points, load_backend

    registered = name in backend_entry_points()
    found: dict[str, Any] = {'registered': registered, 'installed': False, 'reason': '', 'devices': [], 'versions': {}}
    if quick:
        reason = obstacle(name) if registered else 'not registered'
        return found | {'installed': not reason, 'reason': reason}
    try:
        backend = load_backend(name)
        return found | {'installed': True, 'devices': backend.devices(), 'versions': backend.versions()}
    except Exception as error:  # a broken installation may raise anything, and telling so is the purpose here
        return found | {'reason': wrong_keras(name) or ' '.join(str(error).split()) or type(error).__name__}


def obstacle(name: str) -> str:
    """What would keep a backend from being loaded, as far as it can be told without importing it; '' if nothing."""
    from .backend import missing_modules

    if missing := missing_modules(name):
        return f'{" and ".join(missing)} cannot be imported'
    return wrong_keras(name)


def wrong_keras(name: str) -> str:
    """Where Keras is set to run on something else than the TensorFlow that the backend needs; '' if it is not."""
    chosen, where = keras_backend()
    if name != 'tensorflow' or chosen == 'tensorflow':
        return ''
    return f'Keras is set to its backend {chosen} in {where}; set that to tensorflow'


def keras_backend() -> tuple[str, str]:
    """The backend that Keras will choose, and the environment variable or file that says so (Keras 3, config.py)."""
    if chosen := os.environ.get('KERAS_BACKEND'):
        return chosen, 'KERAS_BACKEND'
    file = Path(os.environ.get('KERAS_HOME', '~/.keras')).expanduser() / 'keras.json'
    try:
        return str(json.loads(file.read_text(encoding='utf-8')).get('backend', 'tensorflow')), str(file)
    except (OSError, ValueError, AttributeError):  # not there, or no JSON object
        return 'tensorflow', 'its default'


def examine_host() -> dict[str, Any]:
    """Whether Ptychodus is installed; our wheel alone makes `ptychodus` an empty namespace, which does not count."""
    spec = find_spec('ptychodus')
    number = installed_version('ptychodus')
    return {'found': number is not None and spec is not None and spec.origin is not None, 'version': number}
