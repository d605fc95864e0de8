"""Looking at a network while it is trained: clause B43."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..backend import Backend, Network
from ..physics.prepare import Patterns
from . import jobs
from .runs import Run, Runs

VARIANTS: dict[str, dict[str, Any]] = {
    'default': {},
    'probe trained, batches accumulated': {
        'training__probe_trainable': True,
        'training__batch_size': 8,
        'training__accum_steps': 2,
    },
}


class InspectingChecks:
    """What `job.inspect` sees, and that it changes nothing."""

    @pytest.mark.parametrize('variant', range(len(VARIANTS)), ids=list(VARIANTS))
    def test_inspecting_changes_nothing(
        self, backend: Backend, tmp_path: Path, conformance_runs: Runs, variant: int
    ) -> None:
        """B31, B43: bit by bit the weights, probes and losses of a run that nobody looks at."""
        settings = list(VARIANTS.values())[variant]
        undisturbed: Run = conformance_runs.of(**settings)
        data, heard = _patterns(backend), jobs.Listener()

        def inspect(network: Network) -> None:
            for size in (1, 33):
                network.predict(data.root4[:size], data.backprojection[:size])

        trained = jobs.train(backend, tmp_path, emit=heard, inspect=inspect, **settings)
        assert jobs.distance(trained.weights, undisturbed.trained.weights) == 0
        assert np.array_equal(trained.probes[0], undisturbed.trained.probes[0])
        assert trained.losses == undisturbed.trained.losses
        for mine, other in zip(heard.epochs, undisturbed.heard.epochs, strict=True):
            assert mine | {'cpu_seconds': 0} == other | {'cpu_seconds': 0}

    def test_the_network_is_seen_as_it_stands_after_every_epoch(self, backend: Backend, tmp_path: Path) -> None:
        """B8, B14, B15, B43: after the epoch's event, in the same thread; the patches of the best epoch are kept."""
        data, heard = _patterns(backend), jobs.Listener()
        seen: list[tuple[int, int, NDArray[np.complex64]]] = []

        def inspect(network: Network) -> None:
            patches = network.predict(data.root4, data.backprojection)
            assert np.array_equal(patches, network.predict(data.root4, data.backprojection))
            seen.append((len(heard.epochs), threading.get_ident(), patches))

        job = jobs.job(backend, tmp_path, training__nepochs=3, emit=heard, inspect=inspect)
        trained = backend.train(job)
        assert [(epochs, thread) for epochs, thread, _ in seen] == [(n, threading.get_ident()) for n in (1, 2, 3)]
        best = int(np.argmin([row['val_loss'] for row in heard.epochs]))
        kept = backend.network(job.config, trained.weights, 'cpu').predict(data.root4, data.backprojection)
        assert kept.shape == seen[best][2].shape and seen[best][2].dtype == np.complex64
        assert np.abs(seen[best][2] - kept).max() <= 1e-5 * np.abs(kept).max()
        for (*_, one), (*_, other) in pairwise(seen):
            assert np.abs(one - other).max() > 1e-3

    def test_inspecting_after_a_resume(self, backend: Backend, tmp_path: Path) -> None:
        """B38, B43: the network of the resumed training is seen, not a fresh one."""
        data = _patterns(backend)
        seen: list[NDArray[np.complex64]] = []

        def inspect(network: Network) -> None:
            seen.append(network.predict(data.root4, data.backprojection))

        job = jobs.job(backend, tmp_path, training__nepochs=1, training__scheduler='constant', inspect=inspect)
        backend.train(job)
        still = job.config.merged({'training': {'nepochs': 2, 'learning_rate': jobs.STILL}})
        backend.train(replace(job, config=still, resume=True))
        assert len(seen) == 2
        assert np.abs(seen[1] - seen[0]).max() < 1e-5


def _patterns(backend: Backend) -> Patterns:
    return jobs.prepared(backend).patterns(np.arange(40))
