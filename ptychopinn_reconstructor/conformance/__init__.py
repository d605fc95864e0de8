"""Checks that any backend must pass (specs/backend_contract.md), for pytest; see specs/conformance.md.

In conftest.py: `pytest_plugins = ['ptychopinn_reconstructor.conformance.plugin']`. In a test module:
`from ptychopinn_reconstructor.conformance import BackendConformance` and `class TestMine(BackendConformance):` with
`backend_name = 'mine'`.
"""

import pytest

PARTS = ('interface', 'network', 'results', 'training', 'inspecting', 'stopping', 'effects', 'whole', 'runs')
# Before they are imported, so that a failing assertion shows its values.
pytest.register_assert_rewrite(*(f'{__name__}.{part}' for part in PARTS))

from .suite import BackendConformance  # noqa: E402

__all__ = ['BackendConformance']
