"""Inspection of a network in training: clause B43. That it changes nothing is checked with B31, in training.py."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np

from ..backend import Backend
from . import jobs
from .parts import RESUMING, needs_training
from .runs import Runs


@needs_training
class InspectingChecks:
    """Checks of `job.inspect`."""

    def test_the_network_is_seen_as_it_stands_after_every_epoch(self, backend: Backend, conformance_runs: Runs) -> None:
        """B8, B14, B15, B43: after the epoch's event, in the same thread; the patches of the best epoch are kept."""
        run = conformance_runs.inspected
        seen, config, data = run.looks.seen, jobs.make_config(backend), run.looks.data
        assert [(epochs, thread) for epochs, thread, _ in seen] == [(n, threading.get_ident()) for n in (1, 2, 3)]
        best = int(np.argmin([row['val_loss'] for row in run.heard.epochs]))
        kept = backend.network(config, run.trained.weights, 'cpu').predict(data.root4, data.backprojection)
        assert kept.shape == seen[best][2].shape and seen[best][2].dtype == np.complex64
        assert np.abs(seen[best][2] - kept).max() <= 1e-5 * np.abs(kept).max()
        for (*_, one), (*_, other) in pairwise(seen):
            assert np.abs(one - other).max() > 1e-3

    @RESUMING
    def test_inspecting_after_a_resume(self, conformance_runs: Runs) -> None:
        """B38, B43: the network of the resumed training is seen, not a fresh one."""
        ((_, _, after),) = conformance_runs.resumed.looks.seen
        assert np.array_equal(after, conformance_runs.inspected.looks.seen[2][2])
