"""One thread of BLAS while threads of ours work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


class BlasLimit:
    """The threads of BLAS, which are the process's: the first who asks sets them to one, the last gives them back.

    They wait for work in loops: between the small matrices of a reconstruction that is half of its own time again.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """One thread of BLAS inside, the process's own number afterwards."""
        with self._lock:
            if not self._inside:
                self._limits = threadpool_limits(limits=1, user_api='blas')
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._limits.restore_original_limits()


one_blas_thread = BlasLimit()
