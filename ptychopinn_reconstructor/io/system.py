"""Locks between processes and the cost of a process, which POSIX systems alone provide; elsewhere they are absent."""

from __future__ import annotations

import math
import os
import re
import socket
import sys
from importlib import import_module
from subprocess import Popen
from types import ModuleType
from typing import IO, Any


def _import_module(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:  # Windows has neither module
        return None


_fcntl, _resource = _import_module('fcntl'), _import_module('resource')
CAN_LOCK = _fcntl is not None
HOST = re.sub(r'[^\w-]', '-', socket.gethostname())[:40] or 'unknown'  # in names of files
_MAXRSS_UNIT = 2**20 if sys.platform == 'darwin' else 2**10  # ru_maxrss: bytes on macOS, KiB elsewhere


def lock_file(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False when another process holds it. Needs `CAN_LOCK`."""
    assert _fcntl is not None
    try:
        _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_running(pid: int) -> bool:
    """Whether a process of this host runs; True where the system cannot be asked without harm."""
    if os.name != 'posix':  # Windows would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def measure_peak_memory() -> float:
    """Peak resident memory of this process in MiB; nan where the operating system does not report it."""
    return math.nan if _resource is None else max_memory_mib(_resource.getrusage(_resource.RUSAGE_SELF))


def read_memory_limit() -> float:
    """Bytes that this process may still address, where it is limited (ulimit -v); infinite otherwise."""
    if _resource is None:
        return math.inf
    limit = _resource.getrlimit(_resource.RLIMIT_AS)[0]
    return math.inf if limit == _resource.RLIM_INFINITY else float(limit) - _read_address_space()


def _read_address_space() -> float:
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return float(file.read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError):
        return 0.0


def max_memory_mib(usage: Any) -> float:
    """Peak resident memory in MiB of a record of `getrusage` or `wait4`."""
    return float(usage.ru_maxrss) / _MAXRSS_UNIT


def collect_cost(process: Popen[bytes]) -> tuple[float, float] | None:
    """CPU seconds and peak memory in MiB of a child that has ended; None while it runs. Sets its return code.

    Both are nan where the operating system does not report them, or where the child was already waited for.
    """
    if _resource is None or process.returncode is not None:
        return None if process.poll() is None else (math.nan, math.nan)
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, max_memory_mib(usage)
