"""BLAS leaves the cores to the threads of a reconstruction."""

from __future__ import annotations

from scans import small_scan
from threadpoolctl import threadpool_info, threadpool_limits

import ptychopinn_reconstructor as pp
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.reconstruction.blas import one_blas_thread


def count_threads() -> set[int]:
    """Numbers of threads of the libraries of BLAS in this process."""
    return {library['num_threads'] for library in threadpool_info() if library['user_api'] == 'blas'}


def test_it_has_one_thread_until_the_last_who_asked_is_done() -> None:
    with threadpool_limits(limits=2, user_api='blas'):
        one, other = one_blas_thread(), one_blas_thread()
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        assert count_threads() == {1}
        other.__exit__(None, None, None)
        assert count_threads() == {2}


def test_it_has_one_thread_during_a_reconstruction() -> None:
    seen: list[set[int]] = []
    config = Config().merged({'refinement': {'passes': 1}})
    with threadpool_limits(limits=2, user_api='blas'):
        pp.refine(small_scan(), config, emit=lambda _: seen.append(count_threads()))
        assert seen and all(found == {1} for found in seen) and count_threads() == {2}
