"""Stopping, checkpoints, resuming and the choice of the epoch: clauses B32 and B35 to B39."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import Backend, Network
from ..errors import ModelFileError
from ..events import Epoch, Event
from ..physics.grouping import Split
from . import jobs
from .parts import RESUMING, needs_training
from .runs import Runs

KILLED = """
import sys
from pathlib import Path
from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.conformance import jobs

jobs.train(load_backend(sys.argv[1]), Path(sys.argv[2]), should_stop=jobs.KillAfter(2))
"""


class Broken(Exception):  # noqa: N818 - a caller's own
    """Exception raised by a test's callback."""


@needs_training
class StoppingChecks:
    """Checks of stopping, checkpoints and resuming."""

    @RESUMING
    def test_a_stopped_training_resumes_to_the_same_weights(self, conformance_runs: Runs) -> None:
        """B33, B35, B38: it ends within one more step, and ends where the undisturbed run does when it is resumed."""
        whole, stopped, resumed = conformance_runs.reference, conformance_runs.stopped, conformance_runs.resumed
        asked = 2 * whole.steps + 1
        assert stopped.trained.interrupted and not resumed.trained.interrupted
        assert asked <= stopped.heard.steps <= asked + 2 and stopped.asked <= asked + 2
        assert list(stopped.trained.losses) == list(whole.trained.losses[:2])
        assert all(np.isfinite(values).all() for values in stopped.trained.weights.values())
        assert list(resumed.trained.losses) == list(whole.trained.losses)
        assert jobs.largest_difference(resumed.trained.weights, whole.trained.weights) == 0
        assert [row['epoch'] for row in resumed.heard.epochs] == [3]
        for key in ('patterns_seen', 'learning_rate', 'train_loss', 'val_loss'):
            assert resumed.heard.epochs[0][key] == whole.heard.epochs[2][key], key
        assert resumed.heard.epochs[0]['cpu_seconds'] > stopped.heard.epochs[-1]['cpu_seconds']

    @RESUMING
    @pytest.mark.slow
    def test_a_killed_training_resumes(self, backend: Backend, tmp_path: Path, conformance_runs: Runs) -> None:
        """B31, B38, B39, CHECKPOINT: killed in its first epoch in another process, it goes on to the same weights."""
        done = jobs.run(['-c', KILLED, backend.name, tmp_path / 'job'], tmp_path)
        assert done.returncode == -9, done.stderr
        assert not list(tmp_path.glob('job/model*'))
        resumed = jobs.train(backend, tmp_path / 'job', resume=True)
        whole = conformance_runs.reference.trained
        assert list(resumed.losses) == list(whole.losses)
        assert jobs.largest_difference(resumed.weights, whole.weights) == 0

    @RESUMING
    def test_more_epochs_can_be_added(self, conformance_runs: Runs) -> None:
        """B38: with a lower learning rate and more epochs, a finished training goes on from its end."""
        first = conformance_runs.everything
        further = conformance_runs.train(
            look=True, folder=first.folder, resume=True, training__nepochs=5, training__learning_rate=1e-5,
            training__scheduler='constant', data__validation_fraction=0,
        )  # fmt: skip
        assert list(further.trained.losses[:3]) == list(first.trained.losses) and len(further.trained.losses) == 5
        assert [row['learning_rate'] for row in further.heard.epochs] == pytest.approx([1e-5] * 2)
        before, last, after = (patches for _, _, patches in (*first.looks.seen[1:], further.looks.seen[-1]))
        # 12 steps of a hundredth of the rate at which the 6 steps before them were taken
        assert 0 < np.abs(after - last).max() < 0.2 * np.abs(last - before).max()

    @RESUMING
    def test_fewer_epochs_than_are_done_add_none(
        self, backend: Backend, tmp_path: Path, conformance_runs: Runs
    ) -> None:
        """B38: the training is complete, and its best epoch is returned."""
        whole, heard = conformance_runs.reference, jobs.Listener()
        folder = shutil.copytree(whole.folder, tmp_path / 'job')
        found = jobs.train(backend, folder, resume=True, training__nepochs=1, emit=heard)
        assert not found.interrupted and heard.steps == 0 and list(found.losses) == list(whole.trained.losses)
        assert jobs.largest_difference(found.weights, whole.trained.weights) == 0

    @RESUMING
    def test_what_was_best_is_remembered_across_a_resume(
        self, backend: Backend, conformance_runs: Runs, tmp_path: Path
    ) -> None:
        """B32, B35, B38: where nothing is learnt, the first epoch stays the best, and patience counts from there.

        Also where the folder was moved in between.
        """
        settings: dict[str, Any] = {
            'training__nepochs': 10,
            'training__early_stop_patience': 3,
            'training__learning_rate': jobs.STILL,
        }
        stop = jobs.StopAfter(2 * conformance_runs.reference.steps + 1)
        stopped = jobs.train(backend, tmp_path / 'job', should_stop=stop, **settings)
        assert stopped.interrupted and len(stopped.losses) == 2
        moved = (tmp_path / 'job').rename(tmp_path / 'moved')
        (best,) = moved.glob('checkpoints/best*')
        before = best.read_bytes()
        resumed = jobs.train(backend, moved, resume=True, **settings)
        assert not resumed.interrupted and len(resumed.losses) == 1 + 3
        assert best.read_bytes() == before and not (tmp_path / 'job').exists()

    @RESUMING
    def test_nothing_to_resume_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        """B38: a folder without checkpoints."""
        with pytest.raises(ModelFileError, match='resume'):
            jobs.train(backend, tmp_path, resume=True)

    @pytest.mark.parametrize('where', ['epoch', 'should_stop', 'inspect'])
    def test_an_exception_of_the_caller_reaches_the_caller(self, backend: Backend, tmp_path: Path, where: str) -> None:
        """B36, B42, B43: the very object, and the next training works."""
        mine = Broken(where)

        def emit(event: Event) -> None:
            if where == 'epoch' and isinstance(event, Epoch):
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

    @RESUMING
    def test_everything_is_written_below_the_output_folder(self, conformance_runs: Runs) -> None:
        """B37: last before the first step, best with the first epoch, no temporary file left, nothing elsewhere."""
        run = conformance_runs.reference
        assert 'last' in run.heard.files[0] and 'best' not in run.heard.files[0]
        assert {path.stem for path in run.folder.glob('checkpoints/*')} == {'last', 'best'}
        assert not run.strays
        assert {path.name for path in run.folder.iterdir()} <= {'checkpoints', 'metrics.csv'}

    @pytest.mark.parametrize('monitor', ['val_loss', 'train_loss'])
    def test_the_best_epoch_is_returned_not_the_last(self, backend: Backend, tmp_path: Path, monitor: str) -> None:
        """B32, B35, SETTINGS: by the metric of checkpoint_monitor_metric, here two that disagree.

        With early_stop_patience the training ends so many epochs after the best, and is not interrupted.
        """
        scan, patience, heard = jobs.make_scan(), 2, jobs.Listener()
        nonsense = np.random.default_rng(0).permutation(scan.diffraction[60:].reshape(-1)).reshape(-1, 32, 32)
        spoiled = jobs.replace_patterns(scan, np.concatenate([scan.diffraction[:60], nonsense]))
        split = Split(np.flatnonzero(spoiled.order < 60), np.flatnonzero(spoiled.order >= 60))
        looks = jobs.PredictionRecorder(spoiled.patterns(np.arange(40)), heard)
        found = jobs.train(
            backend, tmp_path, scans=(spoiled,), splits=(split,), emit=heard, inspect=looks, training__nepochs=6,
            training__early_stop_patience=patience, training__checkpoint_monitor_metric=monitor,
        )  # fmt: skip
        best = {name: int(np.argmin([row[name] for row in heard.epochs])) for name in ('val_loss', 'train_loss')}
        assert best['val_loss'] < best['train_loss'] and best['val_loss'] + patience < 5
        assert not found.interrupted and len(found.losses) == min(6, best[monitor] + 1 + patience)
        assert found.summary['monitor'] == monitor
        kept = backend.network(jobs.make_config(backend), found.weights, 'cpu')
        patches = kept.predict(looks.data.root4, looks.data.backprojection)
        away = [float(np.abs(patches - one).max()) for _, _, one in looks.seen]
        assert int(np.argmin(away)) == best[monitor] and sorted(away)[0] < 1e-5 < 0.1 * sorted(away)[1]
