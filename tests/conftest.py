"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from scans import backend_here

from ptychopinn_reconstructor.backend import missing_modules

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture
def shared_data() -> Path:
    """The folder of real and simulated scans beside the checkout; skips where it is absent."""
    if not (SHARED_DATA / 'simulated_A.npz').exists():
        pytest.skip('no data: ../shared/data/simulated_A.npz beside the checkout is absent')
    return SHARED_DATA


@pytest.fixture(scope='session')
def backend_name() -> str:
    """The backend that scans.short_config chooses, PyTorch where it is installed; skips where there is none at all."""
    name = backend_here()
    if missing := missing_modules(name):
        pytest.skip(f'no backend is installed: neither TensorFlow nor PyTorch ({" and ".join(missing)})')
    return name
