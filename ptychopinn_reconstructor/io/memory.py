"""Memory foreseen: what a job will need is compared with what is there before the work begins."""

from __future__ import annotations

import math
from pathlib import Path

from ..errors import InputError, ScanError
from .system import read_memory_limit

CGROUPS = (  # limit and use of the group of processes that this one is in: containers, batch queues
    (Path('/sys/fs/cgroup/memory.max'), Path('/sys/fs/cgroup/memory.current')),
    (
        Path('/sys/fs/cgroup/memory/memory.limit_in_bytes'),
        Path('/sys/fs/cgroup/memory/memory.usage_in_bytes'),
    ),
)
MEMINFO = Path('/proc/meminfo')


def measure_available_memory() -> float:
    """Bytes that this process can still take; infinite where the operating system does not report them."""
    return min(_read_available(), *(_read_group(*files) for files in CGROUPS), read_memory_limit())


def require_memory(needed: float, what: str, remedy: str, kind: type[InputError] = ScanError) -> None:
    """Raise an error with both numbers when `what` needs more bytes than are available."""
    available = measure_available_memory()
    if needed > available:
        there = f'{available / 2**30:,.1f} GiB'
        raise kind(f'{what} needs {needed / 2**30:,.1f} GiB of memory but {there} are available; {remedy}.')


def _read_available() -> float:
    try:
        lines = dict(line.split(':', 1) for line in MEMINFO.read_text().splitlines() if ':' in line)
        return 1024.0 * int(lines['MemAvailable'].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf


def _read_group(limit: Path, used: Path) -> float:
    try:
        return float(int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # 'max': no limit
        return math.inf
