"""CI fails where a stage fails, and runs the other stages all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / '.ci' / 'run'
BEFORE = 'environments'
STAGES = ['lint', 'test', 'test-ptychodus']


def ci(folder: Path, failing: str) -> tuple[int, list[str], str]:
    """Exit status, the stages that were made and what was said, with a `make` that only fails at one of them."""
    (folder / '.ci').mkdir()
    shutil.copy(SCRIPT, folder / '.ci')
    make = folder / 'bin' / 'make'
    make.parent.mkdir()
    make.write_text(f'#!/bin/sh\necho "$1" >> made\necho "making $1"\ntest "$1" != "{failing}"\n')
    make.chmod(0o755)
    path = f'{make.parent}{os.pathsep}{os.environ["PATH"]}'
    done = subprocess.run(
        ['bash', str(folder / '.ci' / 'run')], env=os.environ | {'PATH': path}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, (folder / 'made').read_text().split(), done.stdout


@pytest.mark.parametrize('failing', STAGES)
def test_a_failed_stage_fails_ci_after_the_others(tmp_path: Path, failing: str) -> None:
    status, made, said = ci(tmp_path, failing)
    assert status != 0 and made == [BEFORE, *STAGES]
    assert f'== make {failing} FAILED' in said and f'== make {failing}:' not in said
    assert all(f'making {stage}' in said for stage in STAGES)


def test_without_environments_nothing_is_tested(tmp_path: Path) -> None:
    status, made, _ = ci(tmp_path, BEFORE)
    assert status != 0 and made == [BEFORE]


def test_ci_passes_where_every_stage_does(tmp_path: Path) -> None:
    status, made, said = ci(tmp_path, 'none of them')
    assert status == 0 and made == [BEFORE, *STAGES]
    assert 'FAILED' not in said and '== all stages:' in said
