"""Small simulated scans, products, short configurations, and the backend to run them with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptychopinn_reconstructor.backend import installed
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.result import Reconstruction
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
        'refinement': {'passes': 0},
        'execution': {'device': 'cpu', 'backend': backend_here()},
    }
    for key, value in changes.items():
        section, field = key.split('__')
        values.setdefault(section, {})[field] = value
    return Config().merged(values)


def noise_product(seed: int = 0, modes: int = 2, n: int = 20, **changes: Any) -> Reconstruction:
    """A reconstruction of noise with pixels that are not square."""
    random = np.random.default_rng(seed)

    def noise(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)

    fields: dict[str, Any] = {
        'object': noise(91, 80),
        'origin': (41.25, 37.5),
        'probe': noise(modes, 16, 16),
        'positions': random.uniform(-30, 30, (n, 2)),
        'pixel_size': (2e-8, 1e-8),
        'name': 'test',
        'comments': 'a comment',
        'losses': ((0, 2.5), (4, 1.25)),
        'metadata': {'photon_energy_eV': 8000.0, 'probe_position_indexes': np.arange(n) + 3},
    }
    return Reconstruction(**{**fields, **changes})
