"""Stopping, checkpoints, resuming, and which epoch is kept: clauses B32 and B35 to B39."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import Backend, Network
from ..errors import ModelFileError
from ..events import Event
from ..physics.grouping import Split
from . import jobs
from .runs import Run, Runs

KILLED = """
import sys
from pathlib import Path
from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.conformance import jobs

jobs.train(load_backend(sys.argv[1]), Path(sys.argv[2]), should_stop=jobs.KillAfter(int(sys.argv[3])), **jobs.LONG)
"""


class Broken(Exception):  # noqa: N818 - a caller's own
    """Raised by a callback."""


class StoppingChecks:
    """Stopping, checkpoints, resuming."""

    @pytest.fixture
    def whole(self, conformance_runs: Runs) -> Run:
        """Four epochs that nothing disturbs."""
        return conformance_runs.whole

    @pytest.fixture
    def steps(self, whole: Run) -> int:
        """Batches of an epoch."""
        return int(whole.heard.epochs[0]['patterns_seen']) // 16

    @pytest.mark.slow
    def test_a_stopped_training_resumes_to_the_same_weights(
        self, backend: Backend, tmp_path: Path, whole: Run, steps: int
    ) -> None:
        """B35, B38: it ends within one more step, and ends where the undisturbed run does when it is resumed."""
        asked = 2 * steps + 1  # within the third epoch
        stop, heard = jobs.StopAfter(asked), jobs.Listener()
        stopped = jobs.train(backend, tmp_path, should_stop=stop, emit=heard, **jobs.LONG)
        assert stopped.interrupted
        assert asked <= heard.steps <= asked + 2 and stop.asked <= asked + 2
        assert list(stopped.losses) == list(whole.trained.losses[:2])
        assert all(np.isfinite(values).all() for values in stopped.weights.values())
        again = jobs.Listener()
        resumed = jobs.train(backend, tmp_path, resume=True, emit=again, **jobs.LONG)
        assert not resumed.interrupted
        assert list(resumed.losses) == list(whole.trained.losses)
        assert jobs.distance(resumed.weights, whole.trained.weights) == 0
        assert [row['epoch'] for row in again.epochs] == [3, 4]
        for key in ('patterns_seen', 'learning_rate', 'train_loss', 'val_loss'):
            assert [row[key] for row in again.epochs] == [row[key] for row in whole.heard.epochs[2:]], key
        assert again.epochs[0]['cpu_seconds'] > heard.epochs[-1]['cpu_seconds']

    @pytest.mark.slow
    def test_a_killed_training_resumes(self, backend: Backend, tmp_path: Path, whole: Run, steps: int) -> None:
        """B31, B39, CHECKPOINT: killed in another process, it goes on here to the same weights."""
        done = jobs.run(['-c', KILLED, backend.name, tmp_path / 'job', steps + 2], tmp_path)
        assert done.returncode == -9, done.stderr
        assert not list(tmp_path.glob('job/model*'))
        resumed = jobs.train(backend, tmp_path / 'job', resume=True, **jobs.LONG)
        assert list(resumed.losses) == list(whole.trained.losses)
        assert jobs.distance(resumed.weights, whole.trained.weights) == 0

    @pytest.mark.slow
    def test_more_epochs_can_be_added(self, backend: Backend, tmp_path: Path) -> None:
        """B38: with a lower learning rate and more epochs, a finished training goes on from its end."""
        constant: dict[str, Any] = {'training__scheduler': 'constant', 'data__validation_fraction': 0}
        first = jobs.train(backend, tmp_path, **constant)
        heard = jobs.Listener()
        further = jobs.train(
            backend, tmp_path, resume=True, emit=heard, training__nepochs=4, training__learning_rate=1e-5, **constant
        )
        assert list(further.losses[:2]) == list(first.losses) and len(further.losses) == 4
        assert [row['learning_rate'] for row in heard.epochs] == pytest.approx([1e-5] * 2)
        assert 0 < jobs.distance(further.weights, first.weights) < 5e-4  # 12 steps of at most 1e-5, and decay

    def test_nothing_to_resume_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """B38: a folder without checkpoints."""
        with pytest.raises(ModelFileError, match='resume'):
            jobs.train(backend, tmp_path, resume=True)

    @pytest.mark.parametrize('where', ['epoch', 'should_stop', 'inspect'])
    def test_an_exception_of_the_caller_reaches_the_caller(self, backend: Backend, tmp_path: Path, where: str) -> None:
        """B36, B42, B43: the very object, and the next training works."""
        mine = Broken(where)

        def emit(event: Event) -> None:
            if event.kind == where:
                raise mine

        def should_stop() -> bool:
            if where == 'should_stop':
                raise mine
            return False

        def inspect(network: Network) -> None:
            if where == 'inspect':
                raise mine

        with pytest.raises(Broken) as caught:
            jobs.train(backend, tmp_path, emit=emit, should_stop=should_stop, inspect=inspect)
        assert caught.value is mine

    def test_everything_is_written_below_the_output_folder(
        self, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """B37: last before the first step, best with the first epoch, no temporary file left, nothing elsewhere."""
        elsewhere, folder = tmp_path / 'elsewhere', tmp_path / 'job'
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        seen: list[set[str]] = []

        def emit(event: Event) -> None:
            seen.append({path.stem for path in folder.glob('checkpoints/*')})

        jobs.train(backend, folder, emit=emit)
        assert 'last' in seen[0] and 'best' not in seen[0]
        names = {path.stem for path in folder.glob('checkpoints/*')}
        assert names == {'last', 'best'}
        assert not list(elsewhere.iterdir())
        assert {path.name for path in folder.iterdir()} <= {'checkpoints', 'metrics.csv'}

    @pytest.mark.slow
    def test_the_best_epoch_is_returned_not_the_last(self, backend: Backend, tmp_path: Path) -> None:
        """B32, B35, SETTINGS: by the metric of checkpoint_monitor_metric, here two that disagree."""
        scan = jobs.scan()
        nonsense = np.random.default_rng(0).permutation(scan.diffraction[60:].reshape(-1)).reshape(-1, 32, 32)
        spoiled = jobs.scan_with(scan, np.concatenate([scan.diffraction[:60], nonsense]))
        order = spoiled.order
        split = Split(np.flatnonzero(order < 60), np.flatnonzero(order >= 60))
        settings: dict[str, Any] = {'scans': (spoiled,), 'splits': (split,), 'training__nepochs': 6}
        by_val, by_train = jobs.Listener(), jobs.Listener()
        one = jobs.train(backend, tmp_path / 'val', emit=by_val, **settings)
        two = jobs.train(
            backend, tmp_path / 'train', emit=by_train, training__checkpoint_monitor_metric='train_loss', **settings
        )
        best_val = int(np.argmin([row['val_loss'] for row in by_val.epochs])) + 1
        best_train = int(np.argmin([row['train_loss'] for row in by_train.epochs])) + 1
        assert best_val < best_train
        assert (one.summary['monitor'], two.summary['monitor']) == ('val_loss', 'train_loss')
        batches = int(by_val.epochs[0]['patterns_seen']) // 16
        stop = jobs.StopAfter(best_val * batches)
        stopped = jobs.train(backend, tmp_path / 'stopped', should_stop=stop, **settings)
        assert jobs.distance(stopped.weights, one.weights) == 0
        assert jobs.distance(one.weights, two.weights) > 1e-4
