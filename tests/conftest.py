"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture
def shared_data() -> Path:
    """The folder of real and simulated scans beside the checkout; skips where it is absent."""
    if not (SHARED_DATA / 'simulated_A.npz').exists():
        pytest.skip('no data: ../shared/data/simulated_A.npz beside the checkout is absent')
    return SHARED_DATA
