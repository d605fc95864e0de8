"""One thread of BLAS while threads of ours work."""

from __future__ import annotations

from collections.abc import Callable

from threadpoolctl import threadpool_limits

from ..physics.threads import ProcessLimit


def _limit_blas(count: int) -> Callable[[], object]:
    limits = threadpool_limits(limits=count, user_api='blas')
    return lambda: limits.restore_original_limits()


# The threads of BLAS wait for work in loops: between the small matrices of a reconstruction that is half of its own
# time again.
one_blas_thread = ProcessLimit(_limit_blas)
