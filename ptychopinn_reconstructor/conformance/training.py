"""Losses, results and events of a training: clauses B20 and B23 to B36, B40 to B42."""

from __future__ import annotations

import importlib.util
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..backend import Backend, Capability, TrainingJob, describe
from ..backend.common import compute_rate_factor
from ..errors import ConfigError, ModelFileError, ScanError, TrainingError
from ..events import Event, Progress
from ..physics.forward import total_variation
from ..physics.grouping import Split
from ..physics.prepare import PreparedScan, prepare_scan
from ..training.run import make_procedural_patterns
from . import jobs, oracle
from .network import predict_patches
from .parts import needs_training
from .runs import Run, Runs

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # settings, and the scan
    'gridsize 1, spoiled': ({'data__neighbor_count': 0, 'data__n_groups': 40}, {'masked': True}),
    'gridsize 2, 3 modes, patches of N': (
        {
            'model__gridsize': 2,
            'model__pad_object': False,
            'model__gaussian_smoothing_sigma': 1.0,
            'data__neighbor_count': 0,
        },
        {'modes': 3, 'masked': True},
    ),
    'gridsize 3, patches of 3/4 N, background and beam': (
        {
            'model__gridsize': 3,
            'model__probe_big': True,
            'training__mae_weight': 0.5,
            'training__realspace_weight': 3.0,
            'training__batch_size': 9,
        },
        {'modes': 2},
    ),
    'positions not used, fresh weights': ({'data__positions_provided': False, 'training__seed': 7}, {}),
    'each alone, several scans': (
        {
            'model__object_big': False,
            'model__amp_activation': 'softplus',
            'training__nll_weight': 0.7,
            'training__batch_size': None,
        },
        {},
    ),
    'supervised': (
        {
            'model__model_type': 'supervised',
            'training__far_field_weight': 0.3,
            'training__realspace_mae_weight': 2.0,
            'training__realspace_weight': 0.5,
        },
        {'modes': 2},
    ),
}
# Whose removal changes what else the case must be, or nothing in the loss of a step.
NOT_ALONE = {'model__model_type', 'model__probe_big', 'model__pad_object', 'training__batch_size'}


def make_loss_job(backend: Backend, folder: Path, case: str, *without: str, **changes: Any) -> TrainingJob:
    """Training job of one epoch at a vanishing learning rate, without some of the case's settings."""
    settings, about = CASES[case]
    settings = {name: value for name, value in settings.items() if name not in without}
    size = jobs.make_config(backend, **settings).model.patch_size
    scans: tuple[PreparedScan, ...] = (jobs.make_prepared_scan(backend, patch_size=size, **about),)
    splits: tuple[Split, ...] = ()
    if 'background' in case:  # some of the counts, and a beam that flickers
        rng = np.random.default_rng(3)
        background, intensity = rng.uniform(0, 20, (32, 32)), rng.uniform(0.5, 1.5, len(scans[0]))
        known: dict[str, Any] = {'background': background.astype(np.float32), 'intensity': intensity.astype(np.float32)}
        scans = (replace(scans[0], **known),)
    if 'spoiled' in case:  # ten patterns are neither trained nor validated on
        splits = (Split(np.arange(60), np.arange(70, 100)),)
    if 'several' in case:  # the last one is only validated on
        scans = (*scans, *(jobs.make_prepared_scan(backend, modes=modes, seed=modes) for modes in (2, 1)))
        everything, nothing = np.arange(100), np.arange(0)
        splits = (Split(everything, nothing),) * 2 + (Split(nothing, everything),)
    still = {'training__learning_rate': jobs.STILL, 'training__nepochs': 1}
    return jobs.make_job(backend, folder, scans, splits, **still, **settings, **changes)


def spoil_scan(backend: Backend, case: str, scan: PreparedScan) -> PreparedScan:
    """The first scan of a case, changed in all that must not matter.

    Garbage in bad pixels and in patterns outside the split, an object whose phase is turned.
    """
    one = scan.scan
    diffraction = np.array(one.diffraction)
    if 'spoiled' in case:
        diffraction[scan.order[60:70]] += 5
        diffraction[:, jobs.BAD] = 60_000
    truth = None if one.object is None else one.object * np.complex64(np.exp(1j))
    changed = replace(one, diffraction=diffraction, object=truth)
    found = prepare_scan(changed, mode='absolute', stride=backend.stride, patch_size=scan.patch_size)
    return replace(found, background=scan.background, intensity=scan.intensity)


@needs_training
class TrainingChecks:
    """Checks of losses, results, events and errors of a training."""

    @pytest.fixture
    def reference(self, conformance_runs: Runs) -> Run:
        """A few short epochs with every setting at its default: what other runs are compared with."""
        return conformance_runs.reference

    @pytest.mark.parametrize('case', CASES)
    def test_the_loss_is_that_of_the_reference(
        self, backend: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str
    ) -> None:
        """B8, B9, B20, B23, B24, B25, B26, B27, B30, B32, B34, LABELS, MODES, SETTINGS: NumPy gives the losses.

        The weights do not move and come back bit by bit, the probes as they were, one a scan. Nothing is printed.
        """
        heard = jobs.Listener()
        job = make_loss_job(backend, tmp_path, case, emit=heard)
        if 'fresh' in case:
            weights = backend.draw_weights(job.config, job.config.training.seed)
        else:
            weights = jobs.draw_test_weights(oracle.shapes(job.config))
        given = {name: values.copy() for name, values in weights.items()}
        scans = (spoil_scan(backend, case, job.scans[0]), *job.scans[1:])
        trained = backend.train(replace(job, scans=scans, initial=None if 'fresh' in case else weights))
        moved = 1e-25 if 'fresh' in case else 0  # a bias that is 0 takes the smallest step
        assert jobs.largest_difference(trained.weights, given) <= moved and jobs.largest_difference(weights, given) == 0
        assert all(np.array_equal(probe, scan.probe) for probe, scan in zip(trained.probes, job.scans, strict=True))
        assert {probe.dtype for probe in trained.probes} == {np.dtype(np.complex64)}
        sizes = [len(split.training) for split in job.splits if len(split.training)]
        plans = [oracle.plan(job.config, job.scans[0].n_pixels, size) for size in sizes]
        assert heard.epochs[0]['patterns_seen'] == sum(k * r * steps for k, r, steps in plans)
        assert heard.steps >= sum(steps for _, _, steps in plans)
        expected = oracle.compute_epoch_losses(job.scans, job.splits, job.config, weights)
        assert trained.losses[0][1] == pytest.approx(expected[0], rel=1e-4)
        assert heard.epochs[0]['val_loss'] == pytest.approx(expected[1], rel=1e-4)
        assert capfd.readouterr().out == ''

    def test_equal_jobs_give_equal_weights(self, conformance_runs: Runs) -> None:
        """B31, B43, SETTINGS: bit by bit, weights, probes, losses and events.

        Also after other jobs, whatever the random state, which stays as it was, whatever settings of execution change
        speed and place only, and whoever looks at the network in between.
        """
        reference, again = conformance_runs.reference, conformance_runs.inspected
        assert again.state_stayed
        assert jobs.largest_difference(again.trained.weights, reference.trained.weights) == 0
        assert np.array_equal(again.trained.probes[0], reference.trained.probes[0])
        assert again.trained.losses == reference.trained.losses
        for mine, other in zip(again.heard.epochs, reference.heard.epochs, strict=True):
            assert mine | {'cpu_seconds': 0} == other | {'cpu_seconds': 0}

    def test_results_and_events(self, reference: Run, backend: Backend) -> None:
        """B23, B32, B33, B34, B35: what is returned, told and asked, in plain types, by the thread that trains."""
        trained, heard = reference.trained, reference.heard
        assert not trained.interrupted
        assert reference.asked >= heard.epochs[-1]['patterns_seen'] // 16
        assert {name: values.shape for name, values in trained.weights.items()} == oracle.shapes(
            jobs.make_config(backend)
        )
        assert all(values.dtype == np.float32 and np.isfinite(values).all() for values in trained.weights.values())
        rows = heard.epochs
        assert [row['epoch'] for row in rows] == [1, 2, 3] == [epoch for epoch, _ in trained.losses]
        assert [row['train_loss'] for row in rows] == [loss for _, loss in trained.losses]
        for row in rows:
            assert row['total'] == 3
            numbers = [row[key] for key in ('train_loss', 'val_loss', 'learning_rate', 'patterns_seen', 'cpu_seconds')]
            assert all(type(number) in (int, float) and np.isfinite(number) for number in numbers)
        progress = [event for event in heard.events if isinstance(event, Progress) and event.stage == 'train']
        fractions = [event.done / event.total for event in progress]
        assert fractions == sorted(fractions) and 0 < fractions[0] <= fractions[-1] <= 1 + 1e-9
        assert heard.threads == {threading.get_ident()}
        summary = dict(trained.summary)
        assert json.loads(json.dumps(summary)) == summary
        assert {'device', 'epochs', 'patterns_seen', 'cpu_seconds', 'monitor', 'parameters'} <= summary.keys()
        assert summary['epochs'] == 3 and summary['patterns_seen'] == rows[-1]['patterns_seen']
        assert summary['parameters'] == sum(values.size for values in trained.weights.values())
        assert trained.losses[-1][1] < trained.losses[0][1]
        assert summary['monitor'] == 'val_loss' and summary['device'] == backend.resolve_device('cpu')

    def test_accumulated_gradients_equal_the_large_batch(self, conformance_runs: Runs) -> None:
        """B25, B43, ACCUM, SETTINGS: two batches of one region step like one batch of two; no group of batches is cut.

        Whoever looks in between; also with a probe that is trained.
        """
        large, small = conformance_runs.with_probe, conformance_runs.accumulated
        assert small.heard.epochs[-1]['patterns_seen'] == large.heard.epochs[-1]['patterns_seen']
        assert small.heard.steps == 2 * large.heard.steps
        assert jobs.largest_difference(small.trained.weights, large.trained.weights) < 2e-4
        change, moved = (
            one.trained.probes[0] - other
            for one, other in ((small, large.trained.probes[0]), (large, conformance_runs.reference.trained.probes[0]))
        )
        assert np.abs(change).max() < 0.02 * np.abs(moved).max()
        losses = [[loss for _, loss in one.trained.losses] for one in (small, large)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    def test_gradients_are_clipped_by_norm(self, backend: Backend, conformance_runs: Runs) -> None:
        """B28, SETTINGS: gradient_clip_val: far below AdamW's epsilon hardly anything moves."""
        start = backend.draw_weights(jobs.make_config(backend), 0)
        held = conformance_runs.of(training__gradient_clip_val=1e-10)
        moved = jobs.largest_difference(conformance_runs.reference.trained.weights, start)
        assert jobs.largest_difference(held.trained.weights, start) < 0.05 * moved

    def test_a_step_is_one_of_adamw(self, backend: Backend, tmp_path: Path) -> None:
        """B28, SETTINGS: the first moves a weight by the rate whatever its gradient, after it has decayed; 0 clips not.

        The rate is a thousandth of learning_rate, where the warm-up begins.
        """
        job = jobs.make_job(
            backend, tmp_path, training__learning_rate=1.0, training__nepochs=1, training__batch_size=2000,
            training__gradient_clip_val=0,
        )  # fmt: skip
        weights = jobs.draw_test_weights(oracle.shapes(job.config))
        trained = backend.train(replace(job, initial=weights))
        name, rate = 'dec1.conv1.kernel', 1e-3
        moved = np.abs(trained.weights[name] - weights[name] * (1 - 0.01 * rate)).ravel()
        assert np.quantile(moved, [0.1, 0.9]) == pytest.approx([rate] * 2, rel=5e-4)

    def test_the_learning_rate_follows_its_schedule(self, conformance_runs: Runs) -> None:
        """B28, SETTINGS: a warm-up, then constant, or a cosine down to 2 %; learning_rate is the largest."""
        constant = conformance_runs.everything
        assert [row['learning_rate'] for row in constant.heard.epochs] == pytest.approx([1e-3] * 3)
        cosine = [row['learning_rate'] for row in conformance_runs.reference.heard.epochs]
        assert cosine == pytest.approx([2e-3 * compute_rate_factor(done / 3, 'cosine') for done in (1, 2, 3)], rel=1e-4)

    def test_supervised_learns_from_the_object(self, backend: Backend, conformance_runs: Runs, tmp_path: Path) -> None:
        """B27, LABELS, SUPERVISED, SETTINGS: both losses fall; without a label nothing is trained.

        With probe_power 'from_counts' the probe has the power of the patterns.
        """
        heard = jobs.Listener()
        bare = prepare_scan(replace(jobs.make_scan(), object=None), mode='absolute', stride=backend.stride)
        with pytest.raises(ScanError, match='object'):
            jobs.train(backend, tmp_path, scans=(bare,), emit=heard, model__model_type='supervised')
        assert not heard.steps
        run = conformance_runs.of(model__model_type='supervised', data__probe_power='from_counts')
        rows = run.heard.epochs
        assert rows[-1]['train_loss'] < 0.9 * rows[0]['train_loss'] and rows[-1]['val_loss'] < rows[0]['val_loss']
        power = float((np.abs(run.trained.probes[0]) ** 2).sum())
        absolute = float((np.abs(conformance_runs.reference.trained.probes[0]) ** 2).sum())
        assert power != pytest.approx(absolute, rel=1e-3)

    def test_a_saturated_network_learns_again(self, backend: Backend, tmp_path: Path) -> None:
        """B47: one whose patches are zero, where neither sigmoid nor tanh has a slope, gives patches that are not."""
        config = jobs.make_config(backend)
        weights = backend.draw_weights(config, 0)
        weights['head.bias'] = np.full_like(weights['head.bias'], -60.0)
        job = jobs.make_job(backend, tmp_path, initial=weights, training__learning_rate=0.02, training__nepochs=10)
        data = job.scans[0].patterns(np.arange(8))
        before, after = (
            predict_patches(backend.network(config, found, 'cpu'), data)
            for found in (weights, backend.train(job).weights)
        )
        assert np.abs(before).max() < 1e-20 and np.abs(after).mean() > 1e-3

    @pytest.mark.parametrize('source', ['procedural', 'mixed'])
    def test_procedural_patterns_are_learnt_from(self, backend: Backend, tmp_path: Path, source: str) -> None:
        """B27, B44, SETTINGS: for weights that do not move, NumPy gives the loss of the patterns that are drawn."""
        scan = jobs.make_prepared_scan(backend, modes=2)
        kind = 'supervised' if source == 'procedural' else 'pinn'
        everything = np.arange(len(scan), dtype=np.int64)
        splits = (Split(everything[:0], everything),) if source == 'procedural' else ()
        job = jobs.make_job(
            backend, tmp_path, (scan,), splits, model__model_type=kind, data__source=source, data__n_groups=32,
            training__dose_range=5.0, training__nepochs=1, training__learning_rate=jobs.STILL, training__batch_size=16,
        )  # fmt: skip
        weights = jobs.draw_test_weights(oracle.shapes(job.config))
        patterns = make_procedural_patterns(scan.probe, scan.scan.bad_pixels, job.config)
        losses = backend.train(replace(job, initial=weights, procedural=patterns)).losses
        doses = [patterns.draw(step, 1).dose for step in range(20)]
        assert 0.2 < min(doses) < 0.4 and 2.5 < max(doses) < 5
        steps = 2 if source == 'procedural' else 16  # 32 patterns, or as many steps as 32 regions need
        expected = np.mean([oracle.procedural_loss(patterns, n, 16, job.config, weights) for n in range(steps)])
        if source == 'mixed':
            expected = (expected + oracle.compute_epoch_losses((scan,), job.splits, job.config, weights)[0]) / 2
        assert losses[0][1] == pytest.approx(expected, rel=1e-4)

    def test_a_trained_probe_keeps_its_power(self, backend: Backend, conformance_runs: Runs) -> None:
        """B32, AMPLITUDE, S6, SETTINGS: probe_trainable; with realspace_weight the network makes flatter patches."""
        before, run = jobs.make_prepared_scan(backend).probe, conformance_runs.with_probe
        moved = run.trained.probes[0]
        assert np.abs(moved - before).max() > 1e-4 * np.abs(before).max()
        assert float((np.abs(moved) ** 2).sum()) == pytest.approx(float((np.abs(before) ** 2).sum()), rel=1e-5)
        data, config = jobs.make_prepared_scan(backend).patterns(np.arange(16)), jobs.make_config(backend)
        rough, flat = (
            total_variation(
                backend.network(config, one.trained.weights, 'cpu').predict(data.root4, data.backprojection),
                np.ones((16, 16)),
            )
            for one in (conformance_runs.reference, run)
        )
        assert flat < 0.7 * rough

    def test_a_trained_scale_stays_within_its_bound(self, backend: Backend, conformance_runs: Runs) -> None:
        """B32, AMPLITUDE, SETTINGS: intensity_scale_trainable changes the probe by a factor, by 5 % at most."""
        before = jobs.make_prepared_scan(backend).probe
        settings: dict[str, Any] = {'training__intensity_scale_trainable': True, 'training__learning_rate': 0.1}
        scaled = conformance_runs.of(**settings).trained.probes[0]
        factor = np.vdot(before, scaled) / np.vdot(before, before)
        assert np.abs(scaled - factor * before).max() < 1e-5 * np.abs(before).max()
        assert 1e-5 < abs(np.log(abs(factor))) <= 0.05 + 1e-6

    def test_nothing_held_out_is_no_obstacle(self, conformance_runs: Runs) -> None:
        """B23, B32, B34, SETTINGS: with validation_fraction 0 all are trained on, and choose the best epoch."""
        everything, reference = conformance_runs.everything, conformance_runs.reference
        assert all('val_loss' not in row for row in everything.heard.epochs)
        assert everything.trained.summary['monitor'] == 'train_loss' and len(everything.trained.losses) == 3
        assert everything.trained.summary['patterns_seen'] > reference.trained.summary['patterns_seen']

    def test_weights_to_begin_with_that_do_not_fit_are_refused(self, backend: Backend, tmp_path: Path) -> None:
        """B13, B30: before the first step."""
        heard = jobs.Listener()
        fresh = backend.draw_weights(jobs.make_config(backend), 7)
        bad = {**fresh, 'head.bias': np.zeros(3, np.float32)}
        with pytest.raises(ModelFileError, match=r'head\.bias'):
            jobs.train(backend, tmp_path, initial=bad, emit=heard)
        assert not heard.steps

    def test_a_loss_that_is_not_finite_ends_the_training(self, backend: Backend, tmp_path: Path) -> None:
        """B40, NANSAFE: a sentence with epoch and remedy; the last good checkpoints stay byte by byte."""
        scan, heard = jobs.make_scan(), jobs.Listener()
        detector = np.array(scan.diffraction, dtype=np.float32)
        failing = prepare_scan(replace(scan, diffraction=detector), stride=backend.stride)
        good: dict[str, bytes] = {}

        def fail(event: Event) -> None:
            heard(event)
            if isinstance(event, Progress) and len(heard.epochs) == 1 and not good:  # what epoch 1 has left is written
                good.update({path.name: path.read_bytes() for path in tmp_path.glob('checkpoints/*')})
                detector[...] = np.nan

        with pytest.raises(TrainingError, match=r'epoch [23].*learning_rate'):
            jobs.train(backend, tmp_path, scans=(failing,), emit=fail)
        assert len(good) == 2 or Capability.RESUMING not in describe(backend.name).capabilities
        assert {path.name: path.read_bytes() for path in tmp_path.glob('checkpoints/*')} == good

    def test_what_cannot_be_trained_is_refused_before_the_first_step(self, backend: Backend, tmp_path: Path) -> None:
        """B41, N: a region too large, scans of two sizes, a logger that is not installed."""
        few = Split(np.arange(5), np.arange(0))
        small, large = jobs.make_prepared_scan(backend), jobs.make_prepared_scan(backend, n=48, positions=30)
        heard = jobs.Listener()
        for words, changes in (
            ('8', {'splits': (few,)}),
            ('32.*48', {'scans': (small, large)}),
            ('pip install mlflow', {'execution__logger_backend': 'mlflow'}),
        ):
            if 'mlflow' in words and importlib.util.find_spec('mlflow') is not None:
                continue
            with pytest.raises(ConfigError, match=words):
                jobs.train(backend, tmp_path, emit=heard, **changes)
        assert not heard.steps

    def test_a_logger_that_is_not_installed_is_refused_early(self, backend: Backend) -> None:
        """B41, LOGGER: `check` says so before anything is written; what is there passes."""
        backend.check(jobs.make_config(backend))
        if importlib.util.find_spec('mlflow') is not None:
            pytest.skip('MLflow is installed here')
        with pytest.raises(ConfigError, match='pip install mlflow'):
            backend.check(jobs.make_config(backend, execution__logger_backend='mlflow'))
