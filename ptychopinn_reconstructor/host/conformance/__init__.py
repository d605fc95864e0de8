"""Checks that any trainable reconstructor of Ptychodus must pass (specs/ptychodus_api_spec.md), for pytest.

In conftest.py: `pytest_plugins = ['ptychopinn_reconstructor.host.conformance.plugin']`. In a test module: `class
TestMine(ReconstructorConformance): ...` and a fixture `conformance_subject`; see specs/conformance.md.
"""

import pytest

PARTS = ('interface', 'models', 'training', 'results', 'stopping', 'watch')
# Before they are imported, so that a failing assertion shows its values.
pytest.register_assert_rewrite(*(f'{__name__}.{part}' for part in PARTS))

from .subject import FORMS, Instance, Subject  # noqa: E402
from .suite import ReconstructorConformance  # noqa: E402

__all__ = ['FORMS', 'Instance', 'ReconstructorConformance', 'Subject']
