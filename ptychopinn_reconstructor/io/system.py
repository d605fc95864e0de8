"""What only POSIX systems tell or do: locks between processes, cost of a process. Elsewhere we do without it."""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from subprocess import Popen
from types import ModuleType
from typing import IO, Any


def _module(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:  # Windows has neither module
        return None


_fcntl, _resource = _module('fcntl'), _module('resource')
CAN_LOCK = _fcntl is not None
_MAXRSS_UNIT = 2**20 if sys.platform == 'darwin' else 2**10  # ru_maxrss: bytes on macOS, KiB elsewhere


def lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False when another process holds it. Needs `CAN_LOCK`."""
    assert _fcntl is not None
    try:
        _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB; nan where the operating system does not tell."""
    return math.nan if _resource is None else mib(_resource.getrusage(_resource.RUSAGE_SELF))


def mib(usage: Any) -> float:
    """Largest resident memory in a record of `getrusage` or `wait4`, MiB."""
    return float(usage.ru_maxrss) / _MAXRSS_UNIT


def cost_when_ended(process: Popen[bytes]) -> tuple[float, float] | None:
    """CPU seconds and largest memory in MiB of a child that has ended; None while it runs. Sets its return code.

    Both are nan where the operating system does not tell, or where somebody else has seen the child end.
    """
    if _resource is None or process.returncode is not None:
        return None if process.poll() is None else (math.nan, math.nan)
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, mib(usage)
