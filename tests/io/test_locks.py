"""One job at a time in an output folder; the lock of a killed one is taken over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from ptychopinn_reconstructor.errors import OutputError
from ptychopinn_reconstructor.io import locks
from ptychopinn_reconstructor.io.locks import NAME, FolderLock
from ptychopinn_reconstructor.io.system import HOST, lock_file

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='locks and signals of POSIX')
HOLD = """
import sys
from ptychopinn_reconstructor.io.locks import FolderLock
with FolderLock(sys.argv[1], 'training'):
    print('held', flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its stdin is closed."""
    command = [sys.executable, '-P', '-c', HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == 'held\n'
        yield process
        process.kill()


def test_a_folder_in_use_names_who_uses_it(tmp_path: Path) -> None:
    folder = tmp_path / 'out'
    with held_elsewhere(folder) as process:
        expected = rf"process {process.pid} on '{HOST}' \('training'\)"
        with pytest.raises(OutputError, match=expected), FolderLock(folder, 'study'):
            pass
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    assert os.listdir(folder) == []
    with FolderLock(folder, 'study'):
        assert os.listdir(folder) == [NAME]
    assert os.listdir(folder) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((tmp_path / NAME).read_text())['pid'] == process.pid
        with FolderLock(tmp_path, 'training'):
            assert json.loads((tmp_path / NAME).read_text())['pid'] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_job_within_a_job_shares_its_lock(tmp_path: Path) -> None:
    with FolderLock(tmp_path, 'training'):
        with FolderLock(tmp_path, 'training'):
            pass
        assert os.listdir(tmp_path) == [NAME]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('can_lock', [True, False])
def test_a_job_in_another_thread_of_the_process_is_refused(
    can_lock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would write the same files."""
    monkeypatch.setattr(locks, 'CAN_LOCK', can_lock)

    def lock() -> None:
        with FolderLock(tmp_path, 'study'):
            pass

    with ThreadPoolExecutor(1) as other:
        with FolderLock(tmp_path, 'training'):
            said = str(other.submit(lock).exception())
            assert 'is in use by another thread of this process' in said and "'training'" in said
        other.submit(lock).result()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('owner', 'free'),
    [
        ({'host': 'elsewhere', 'pid': 1}, False),
        ({'host': HOST, 'pid': 2**22 + 7}, True),
        ({'host': HOST, 'pid': os.getppid()}, False),
        ({'host': HOST, 'pid': 'x'}, True),
        ([1], True),
    ],
)
def test_where_the_file_system_has_no_locks_the_file_decides(
    owner: object, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of another host cannot be asked after; the sentence names the file to remove."""
    monkeypatch.setattr(locks, 'CAN_LOCK', False)
    (tmp_path / NAME).write_text(json.dumps(owner))
    if free:
        with FolderLock(tmp_path, 'training'):
            assert json.loads((tmp_path / NAME).read_text())['pid'] == os.getpid()
        return
    with pytest.raises(OutputError, match=rf'remove .*{NAME}'), FolderLock(tmp_path, 'training'):
        pass


@pytest.mark.parametrize('content', [b'', b'\xff\xfe', b'[' * 5000, b'{"host": "' + b'h' * 5000 + b'"}'])
def test_a_lock_that_cannot_be_read_stops_nobody(content: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    with FolderLock(tmp_path, 'training'):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(OutputError, match=r'Cannot lock the folder .*\(Is a directory\)'), FolderLock(tmp_path, 'x'):
        pass


def test_a_lock_that_never_lasts_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner removes it between our opening and our locking it: it is opened anew, but not for ever."""
    tries: list[str] = []

    def lock_what_is_gone(file: IO[str]) -> bool:
        tries.append(file.name)
        os.unlink(tmp_path / NAME)
        if len(tries) % 2:
            (tmp_path / NAME).write_text('')  # another's by now
        return True

    monkeypatch.setattr(locks, 'lock_file', lock_what_is_gone)
    with pytest.raises(OutputError, match='does not last'), FolderLock(tmp_path, 'training'):
        pass
    assert len(tries) == locks.ATTEMPTS


def test_a_lock_that_is_gone_once_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def lock_at_second(file: IO[str]) -> bool:
        tries.append(file.name)
        if len(tries) == 1:
            os.unlink(tmp_path / NAME)
        return lock_file(file)

    monkeypatch.setattr(locks, 'lock_file', lock_at_second)
    with FolderLock(tmp_path, 'training'):
        owner = json.loads((tmp_path / NAME).read_text())
        assert (owner['host'], owner['pid'], owner['job']) == (HOST, os.getpid(), 'training') and len(tries) == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(('owner', 'free'), [({'host': 'elsewhere', 'pid': 1}, False), (None, True)])
def test_a_file_system_that_refuses_locks_has_none(
    owner: object, free: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: IO[str]) -> bool:
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(locks, 'lock_file', refuse)
    if owner:
        (tmp_path / NAME).write_text(json.dumps(owner))
    if free:
        with FolderLock(tmp_path, 'training'), FolderLock(tmp_path, 'within'):
            assert json.loads((tmp_path / NAME).read_text())['job'] == 'training'
        assert os.listdir(tmp_path) == []
        return
    with pytest.raises(OutputError, match="is in use by process 1 on 'elsewhere'"), FolderLock(tmp_path, 'x'):
        pass
    assert json.loads((tmp_path / NAME).read_text()) == owner, 'the lock of another stays'
