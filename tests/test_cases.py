"""Situations of real users: each script of the folder beside the checkout makes an input, runs our command line on it
and judges what comes of it as the user would; exit 0 is right.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[2] / 'shared' / 'cases'
SCRIPTS = sorted(CASES.glob('[0-9]*.py'))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SCRIPTS, reason='no cases: ../shared/cases beside the checkout is absent'),
]


@pytest.mark.parametrize('script', SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_user_is_served_right(script: Path, tmp_path: Path) -> None:
    programs = {'PY': sys.executable, 'CLI': str(Path(sys.executable).with_name('ptychopinn'))}
    environment = os.environ | programs | {'OMP_NUM_THREADS': '1', 'TMPDIR': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_cases() -> None:
    assert len(SCRIPTS) >= 12
