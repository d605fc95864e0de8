"""The release script refuses what is no release, before it builds anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / '.ci' / 'release'
VERSION = '1.2.3'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a version, a changelog of it, and a `make` that cannot build."""
    folder = tmp_path / 'checkout'
    for name in ('.ci', '.venv/bin', 'bin'):
        (folder / name).mkdir(parents=True)
    shutil.copy(SCRIPT, folder / '.ci')
    (folder / 'CHANGELOG.md').write_text(f'## [{VERSION}] - 2026-01-01\n')
    for path, says in (('.venv/bin/python', f'echo {VERSION}'), ('bin/make', 'echo "made $1"\nexit 1')):
        (folder / path).write_text(f'#!/bin/sh\n{says}\n')
        (folder / path).chmod(0o755)
    git(folder, 'init', '--quiet')
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> None:
    author = ['-c', 'user.name=a', '-c', 'user.email=a@example.org']
    subprocess.run(['git', *author, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, 'add', '--all')
    git(folder, 'commit', '--quiet', '--message', 'all')


def release(folder: Path) -> tuple[int, str]:
    """The exit status, and what was said."""
    path = f'{folder / "bin"}{os.pathsep}{os.environ["PATH"]}'
    command = ['bash', str(folder / '.ci' / 'release')]
    done = subprocess.run(
        command, env=os.environ | {'PATH': path}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def tags(folder: Path) -> str:
    return subprocess.run(['git', 'tag'], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_what_cannot_be_built_is_not_tagged(checkout: Path) -> None:
    status, said = release(checkout)
    assert status != 0 and 'made wheel' in said and tags(checkout) == ''


def test_changes_that_are_not_committed_are_refused(checkout: Path) -> None:
    (checkout / 'new.txt').write_text('new')
    status, said = release(checkout)
    assert status == 1 and said == 'No release: the checkout holds changes that are not committed.\n'


def test_a_version_is_released_once(checkout: Path) -> None:
    git(checkout, 'tag', f'v{VERSION}')
    status, said = release(checkout)
    assert status == 1 and f'v{VERSION} is tagged already; raise __version__.' in said and 'made' not in said


def test_a_version_needs_its_section(checkout: Path) -> None:
    (checkout / 'CHANGELOG.md').write_text('## [1.2.2] - 2026-01-01\n')
    commit(checkout)
    status, said = release(checkout)
    assert status == 1 and f'CHANGELOG.md has no section [{VERSION}].' in said and 'made' not in said
