"""Blocks of work on several threads of the CPU, with results as if there were one.

numpy's loops and scipy's FFTs let other threads run. What each block finds is handed out in the order of the blocks, to
be added up by whoever asked for it: sums are bitwise those of one thread, whatever the number of threads. No thread
waits in a loop, so that a machine that others use as well loses nothing.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Block = TypeVar('Block')
Found = TypeVar('Found')

SHARE = 'OMP_NUM_THREADS'
AHEAD = 2  # blocks for each thread that are worked on, or wait to be taken: what bounds their memory


def available_threads(variables: Mapping[str, str] = os.environ) -> int:
    """Cores that this process may use: those it is bound to, at most OMP_NUM_THREADS.

    That is how torchrun, Dask and Slurm, and we ourselves, tell several processes of a machine their share of it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    share = variables.get(SHARE, '').partition(',')[0]  # a list: those within a thread come after
    return min(cores, int(share)) if share.isdecimal() and int(share) else cores


class ProcessLimit:
    """A limit that holds for the whole process: the first who asks sets it, the last gives back what was before.

    `set_limit` sets it and returns what takes it back.
    """

    def __init__(self, set_limit: Callable[[int], Callable[[], object]]) -> None:
        self._set, self._lock, self._inside = set_limit, threading.Lock(), 0

    @contextmanager
    def __call__(self, count: int = 1) -> Iterator[None]:
        """The limit inside, what was before afterwards."""
        with self._lock:
            if not self._inside:
                self._give_back = self._set(count)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._give_back()


class Threads:
    """`count` threads, which end when nothing refers to them any more."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, 'blocks') if count > 1 else None

    def map(self, compute: Callable[[Block], Found], blocks: Iterable[Block]) -> Iterator[Found]:
        """What `compute` finds of each block, in their order; it must change nothing that another block reads."""
        if self._pool is None:
            yield from map(compute, blocks)
            return
        waiting: deque[Future[Found]] = deque()
        try:
            for block in blocks:
                waiting.append(self._pool.submit(compute, block))
                if len(waiting) > AHEAD * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
