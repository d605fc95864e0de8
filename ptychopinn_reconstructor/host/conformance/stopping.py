"""Ending a job before its end: clauses P23, P24, P37."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from .results import largest_difference
from .runs import PREPARE, Runs
from .watch import Workplace, hash_files, list_children, run_in_thread


def take_first(job: Any) -> Any:
    """First output of a job, which is then closed as the host does on Stop."""
    with closing(job):
        return next(job)


def count_rest(job: Iterator[Any], stop: Any) -> int:
    """Number of outputs after the first, when the job is stopped there."""
    next(job)
    stop()
    return sum(1 for _ in job)


class StoppingChecks:
    """Checks of the host's two ways to end a job: closing its iterator, and requesting a stop."""

    @pytest.mark.slow
    def test_closed_early_it_leaves_nothing_and_works_again(self, conformance_jobs: Runs) -> None:
        """P15, P24, P37: no child process, no scratch; the next result is that of an undisturbed job."""
        trained, scan = conformance_jobs.trained, conformance_jobs.scan.unknown
        undisturbed, state = conformance_jobs.result, trained.place.state()
        with trained.place.enter():
            assert run_in_thread(lambda: take_first(trained.instance.reconstructor.reconstruct(scan))).product
        assert trained.place.find_leftovers(state) == {}
        again = conformance_jobs.reconstruct(trained.place, trained.instance, scan)
        assert largest_difference(again, undisturbed) <= conformance_jobs.subject.repeatability

    @pytest.mark.slow
    @pytest.mark.parametrize('how', ['closed', 'stopped'])
    def test_a_training_can_be_ended(self, conformance_jobs: Runs, how: str) -> None:
        """P23, P24: after its first output; no child process and no scratch are left."""
        scan, place = conformance_jobs.scan.labeled, conformance_jobs.place()
        instance = conformance_jobs.new(place, quick=False)
        reconstructor = instance.reconstructor
        run_in_thread(lambda: PREPARE[conformance_jobs.form()](scan, place.input, instance))
        before = _list_state(place)
        with place.enter(), instance.training_on(scan):
            whole = reconstructor.get_progress_goal()
            if how == 'closed':
                run_in_thread(lambda: take_first(reconstructor.train(place.input, place.output)))
            elif instance.stop is None:
                pytest.skip('only closing the iterator ends it')
            else:
                stop = instance.stop
                assert (
                    run_in_thread(lambda: count_rest(reconstructor.train(place.input, place.output), stop)) < whole - 1
                )
        assert _list_state(place) == before


def _list_state(place: Workplace) -> tuple[set[int], dict[str, str]]:
    return list_children(), hash_files(place.scratch)
