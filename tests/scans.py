"""Small simulated scans, short configurations, and the backend to run them with."""

from __future__ import annotations

from typing import Any

from ptychopinn_reconstructor.backend import installed
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.simulate import simulate
from ptychopinn_reconstructor.scan import Scan


def small_scan(**changes: Any) -> Scan:
    """A scan of 100 patterns of 32 x 32 pixels with its truth: seconds to train on."""
    settings: dict[str, Any] = {'n': 32, 'positions': 100, 'step': 4.0, 'jitter': 1.0, 'photons': 1e5, 'seed': 0}
    return simulate(**settings | changes)


def backend_here() -> str:
    """The backend for tests that any will do for: PyTorch where it is installed, otherwise another."""
    default, there = Config().execution.backend, installed()
    return default if default in there or not there else there[0]


def backend_options() -> tuple[str, ...]:
    """What a command line needs to choose that backend: nothing where it is the default one."""
    return () if backend_here() == Config().execution.backend else ('--backend', backend_here())


def short_config(**changes: Any) -> Config:
    """A few short epochs on the CPU with a backend that is here; `changes` are 'section__field' values."""
    values: dict[str, dict[str, Any]] = {
        'training': {'batch_size': 16},
        'execution': {'device': 'cpu', 'backend': backend_here()},
    }
    for key, value in changes.items():
        section, field = key.split('__')
        values.setdefault(section, {})[field] = value
    return Config().merged(values)
