"""What a training computes and tells: clauses B20 and B23 to B36, B40 to B42."""

from __future__ import annotations

import importlib.util
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ..backend import Backend
from ..errors import ConfigError, ModelFileError, ScanError, TrainingError
from ..events import Event
from ..physics.forward import object_error, total_variation
from ..physics.grouping import Split
from ..physics.prepare import prepare_scan
from ..physics.stitching.stitch import probe_weight
from ..training.run import procedural_patterns
from . import jobs, oracle
from .runs import Run, Runs

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # settings, and the scan
    'gridsize 1': (
        {'data__neighbor_count': 0, 'data__n_groups': 40},
        {'masked': True},
    ),
    'gridsize 2, 3 modes': ({'model__gridsize': 2, 'data__neighbor_count': 0}, {'modes': 3}),
    'gridsize 3': (
        {'model__gridsize': 3, 'training__mae_weight': 0.5, 'training__batch_size': 9},
        {},
    ),
    'patches of 3/4 N': ({'model__probe_big': True, 'training__realspace_weight': 3.0}, {'modes': 2}),
    'positions not used': (
        {'data__positions_provided': False, 'model__gaussian_smoothing_sigma': 1.0},
        {},
    ),
    'patches of N, gridsize 2': ({'model__pad_object': False, 'model__gridsize': 2, 'data__neighbor_count': 0}, {}),
    'each alone, 2 modes': (
        {
            'model__object_big': False,
            'model__amp_activation': 'softplus',
            'training__nll_weight': 0.7,
            'training__batch_size': None,
        },
        {'modes': 2},
    ),
}


class TrainingChecks:
    """The mathematics of a training, its results, events and errors."""

    @pytest.fixture
    def reference(self, conformance_runs: Runs) -> Run:
        """Two short epochs with every setting at its default: what other runs are compared with."""
        return conformance_runs.reference

    @pytest.mark.parametrize('case', range(len(CASES)), ids=list(CASES))
    def test_the_loss_is_that_of_the_reference(self, backend: Backend, tmp_path: Path, case: int) -> None:
        """B8, B9, B20, B24, B25, B26, B30, B32, MODES, SETTINGS: for weights that do not move, NumPy gives the losses.

        The weights come back bit by bit, and the probes as they were. Every setting of the case matters.
        """
        settings, about = list(CASES.values())[case]
        size = jobs.configuration(backend, **settings).model.patch_size
        scan = jobs.prepared(backend, patch_size=size, **about)
        heard = jobs.Listener()
        job = jobs.job(
            backend, tmp_path, (scan,), training__learning_rate=jobs.STILL, training__nepochs=1, emit=heard, **settings
        )
        weights = jobs.drawn_weights(oracle.shapes(job.config))
        given = {name: values.copy() for name, values in weights.items()}
        trained = backend.train(replace(job, initial=weights))
        assert jobs.distance(trained.weights, given) == 0 and jobs.distance(weights, given) == 0
        assert trained.probes[0].dtype == np.complex64 and np.array_equal(trained.probes[0], scan.probe)
        k, r, steps = oracle.plan(job.config, scan.n_pixels, len(job.splits[0].training))
        assert heard.epochs[0]['patterns_seen'] == k * r * steps
        assert heard.steps >= steps
        expected = oracle.epoch_losses(scan, job.splits[0], job.config, weights)
        assert trained.losses[0][1] == pytest.approx(expected[0], rel=1e-4)
        assert heard.epochs[0]['val_loss'] == pytest.approx(expected[1], rel=1e-4)
        for key in settings.keys() - {'training__batch_size', 'model__probe_big', 'model__pad_object'}:
            others = {name: value for name, value in settings.items() if name != key}
            plain = jobs.job(backend, tmp_path, (scan,), training__nepochs=1, **others)
            assert oracle.epoch_losses(scan, plain.splits[0], plain.config, weights)[0] != pytest.approx(
                expected[0], rel=1e-3
            ), key

    def test_total_variation_flattens_the_patches(self, backend: Backend, conformance_runs: Runs) -> None:
        """S6, SETTINGS: realspace_weight: the network that was trained with it makes flatter patches."""
        data = jobs.prepared(backend).patterns(np.arange(16))
        config = jobs.configuration(backend)
        runs = (conformance_runs.reference, conformance_runs.of(training__realspace_weight=30.0))
        rough, flat = (
            total_variation(
                backend.network(config, run.trained.weights, 'cpu').predict(data.root4, data.backprojection),
                np.ones((16, 16)),
            )
            for run in runs
        )
        assert flat < 0.7 * rough

    def test_the_error_of_the_object_is_a_part_of_the_loss(self, backend: Backend, tmp_path: Path) -> None:
        """S7, SETTINGS: realspace_mae_weight adds so many times the reference's error to the supervised loss."""
        scan, losses = jobs.prepared(backend), []
        for weight in (0.0, 2.0):
            job = jobs.job(
                backend, tmp_path / str(weight), (scan,), model__model_type='supervised', training__nepochs=1,
                training__learning_rate=jobs.STILL, training__realspace_mae_weight=weight,
            )  # fmt: skip
            weights = jobs.drawn_weights(oracle.shapes(job.config))
            losses.append(backend.train(replace(job, initial=weights)).losses[0][1])
        index = oracle.drawn(scan, job.splits[0], job.config).ravel()
        data = scan.patterns(index)
        patches = oracle.patches_of(job.config, weights, data.root4, data.backprojection)
        expected = object_error(patches, scan.labels(index), probe_weight(scan.probe, scan.patch_size))
        assert expected > 0.1
        assert losses[1] - losses[0] == pytest.approx(2 * expected, rel=1e-3)

    def test_equal_jobs_give_equal_weights(self, backend: Backend, tmp_path: Path, conformance_runs: Runs) -> None:
        """B31: also after other jobs, whatever the random state, which stays as it was; another seed gives others."""
        reference, other = conformance_runs.reference, conformance_runs.of(training__seed=1)
        np.random.seed(12)
        state = repr(np.random.get_state())
        again = jobs.train(backend, tmp_path)
        assert repr(np.random.get_state()) == state
        assert jobs.distance(again.weights, reference.trained.weights) == 0
        assert again.losses == reference.trained.losses
        assert jobs.distance(other.trained.weights, reference.trained.weights) > 1e-2

    def test_results_and_events(self, reference: Run, backend: Backend) -> None:
        """B23, B32, B33, B34, B35: what is returned, told and asked, in plain types, by the thread that trains."""
        trained, heard = reference.trained, reference.heard
        assert not trained.interrupted
        assert reference.asked.asked >= heard.epochs[-1]['patterns_seen'] // 16
        assert {name: values.shape for name, values in trained.weights.items()} == oracle.shapes(
            jobs.configuration(backend)
        )
        assert all(values.dtype == np.float32 and np.isfinite(values).all() for values in trained.weights.values())
        rows = heard.epochs
        assert [row['epoch'] for row in rows] == [1, 2] == [epoch for epoch, _ in trained.losses]
        assert [row['train_loss'] for row in rows] == [loss for _, loss in trained.losses]
        for row in rows:
            assert row['total'] == 2
            numbers = [row[key] for key in ('train_loss', 'val_loss', 'learning_rate', 'patterns_seen', 'cpu_seconds')]
            assert all(type(number) in (int, float) and np.isfinite(number) for number in numbers)
        progress = [event.data for event in heard.events if event.kind == 'progress']
        fractions = [float(data['done']) / data['total'] for data in progress if data['stage'] == 'train']
        assert fractions == sorted(fractions) and 0 < fractions[0] <= fractions[-1] <= 1 + 1e-9
        assert heard.threads == {threading.get_ident()}
        summary = dict(trained.summary)
        assert json.loads(json.dumps(summary)) == summary
        assert {'device', 'epochs', 'patterns_seen', 'cpu_seconds', 'monitor', 'parameters'} <= summary.keys()
        assert summary['epochs'] == 2 and summary['patterns_seen'] == rows[-1]['patterns_seen']
        assert summary['parameters'] == sum(values.size for values in trained.weights.values())
        assert summary['monitor'] == 'val_loss' and summary['device'] == backend.resolve_device('cpu')

    @pytest.mark.slow
    def test_patterns_left_out_and_bad_pixels_have_no_influence(
        self, backend: Backend, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """B24, B34: garbage in bad pixels and outside the split changes nothing, in the held-out part only val_loss.

        Nothing is printed to the standard output.
        """
        scan = jobs.scan()
        order = jobs.prepared(backend).order
        split = Split(np.arange(60), np.arange(70, 90))

        def run(name: str, spoiled: list[int], *, dirty: bool = False) -> tuple[Any, Any]:
            patterns = np.array(scan.diffraction)
            patterns[order[spoiled]] = patterns[order[spoiled]][:, ::-1] * 3 + 7
            if dirty:
                patterns[:, jobs.BAD] = 60_000
            one = replace(scan, diffraction=patterns, bad_pixels=jobs.BAD)
            scans = (prepare_scan(one, mode='absolute', stride=backend.stride),)
            heard = jobs.Listener()
            found = jobs.train(backend, tmp_path / name, scans=scans, splits=(split,), training__nepochs=1, emit=heard)
            return found, heard.epochs[0]['val_loss']

        whole, loss = run('a', [])
        outside, same = run('b', [*range(60, 70), *range(90, 100)], dirty=True)
        held_out, other = run('c', [*range(70, 90)], dirty=True)
        assert jobs.distance(whole.weights, outside.weights) == 0 and loss == same
        assert jobs.distance(whole.weights, held_out.weights) == 0 and other > 1.1 * loss
        assert capfd.readouterr().out == ''

    def test_accumulated_gradients_equal_the_large_batch(
        self, backend: Backend, tmp_path: Path, conformance_runs: Runs
    ) -> None:
        """B25, ACCUM, SETTINGS: two batches of one region step like one batch of two; no group of batches is cut."""
        heard, reference = jobs.Listener(), conformance_runs.reference
        small = jobs.train(backend, tmp_path, training__batch_size=8, training__accum_steps=2, emit=heard)
        assert heard.epochs[-1]['patterns_seen'] == reference.heard.epochs[-1]['patterns_seen']
        assert jobs.distance(small.weights, reference.trained.weights) < 2e-4
        assert [loss for _, loss in small.losses] == pytest.approx([x for _, x in reference.trained.losses], rel=1e-4)
        alone = conformance_runs.of(training__batch_size=8)
        assert jobs.distance(alone.trained.weights, reference.trained.weights) > 2e-3

    @pytest.mark.slow
    def test_gradients_are_clipped_by_norm(self, backend: Backend, tmp_path: Path, reference: Run) -> None:
        """B28, SETTINGS: gradient_clip_val: far below AdamW's epsilon hardly anything moves; 0 does not clip."""
        start = backend.fresh_weights(jobs.configuration(backend), 0)
        held, free = (
            jobs.train(backend, tmp_path / str(value), training__gradient_clip_val=value) for value in (1e-10, 0)
        )
        moved = jobs.distance(reference.trained.weights, start)
        assert jobs.distance(held.weights, start) < 0.05 * moved
        assert jobs.distance(free.weights, start) > 0.5 * moved
        assert jobs.distance(free.weights, reference.trained.weights) > 1e-4

    def test_a_step_is_one_of_adamw(self, backend: Backend, tmp_path: Path) -> None:
        """B28: the first step moves every weight by the same amount, whatever its gradient."""
        job = jobs.job(
            backend, tmp_path, training__learning_rate=1.0, training__nepochs=1, training__batch_size=2000,
            training__gradient_clip_val=0,
        )  # fmt: skip
        weights = jobs.drawn_weights(oracle.shapes(job.config))
        trained = backend.train(replace(job, initial=weights))
        moved = np.abs(trained.weights['dec1.conv1.kernel'] - weights['dec1.conv1.kernel']).ravel()
        low, high = np.quantile(moved, [0.1, 0.9])
        assert 0 < high < 1.02 * low

    def test_the_learning_rate_follows_its_schedule(self, conformance_runs: Runs) -> None:
        """B28, SETTINGS: a warm-up, then constant, or a cosine down to 2 %; learning_rate is the largest."""
        constant = conformance_runs.of(training__scheduler='constant', training__learning_rate=1e-3)
        assert [row['learning_rate'] for row in constant.heard.epochs] == pytest.approx([1e-3] * 2)
        assert jobs.distance(constant.trained.weights, conformance_runs.reference.trained.weights) > 1e-3
        cosine = [row['learning_rate'] for row in conformance_runs.whole.heard.epochs]
        assert 1.8e-3 < cosine[0] < 2e-3
        assert cosine == sorted(cosine, reverse=True)
        assert 0.019 * 2e-3 < cosine[-1] < 0.06 * 2e-3

    @pytest.mark.slow
    def test_supervised_learns_from_the_object(self, backend: Backend, tmp_path: Path) -> None:
        """B27, LABELS, SUPERVISED: up to each patch's global phase; without a label nothing is trained."""
        scan = jobs.scan()
        supervised: dict[str, Any] = {'model__model_type': 'supervised', 'training__nepochs': 8}
        heard = jobs.Listener()
        assert scan.object is not None

        def trained_on(truth: NDArray[np.complex64] | None, name: str) -> list[float]:
            one = prepare_scan(replace(scan, object=truth), mode='absolute', stride=backend.stride)
            found = jobs.train(backend, tmp_path / name, scans=(one,), emit=heard, **supervised)
            return [loss for _, loss in found.losses]

        with pytest.raises(ScanError, match='object'):
            trained_on(None, 'none')
        assert not heard.steps
        losses = trained_on(scan.object, 'true')
        assert losses[-1] < 0.9 * losses[0]
        assert heard.epochs[-1]['val_loss'] < heard.epochs[0]['val_loss']
        turned = trained_on(scan.object * np.complex64(np.exp(1j)), 'turned')
        assert turned[:2] == pytest.approx(losses[:2], rel=1e-3)

    @pytest.mark.parametrize('source', ['procedural', 'mixed'])
    def test_procedural_patterns_are_learnt_from(self, backend: Backend, tmp_path: Path, source: str) -> None:
        """B27, B44, SETTINGS: for weights that do not move, NumPy gives the loss of the patterns that are drawn."""
        scan = jobs.prepared(backend, modes=2)
        kind = 'supervised' if source == 'procedural' else 'pinn'
        everything = np.arange(len(scan), dtype=np.int64)
        splits = (Split(everything[:0], everything),) if source == 'procedural' else ()
        job = jobs.job(
            backend, tmp_path, (scan,), splits, model__model_type=kind, data__source=source, data__n_groups=32,
            training__dose_range=5.0, training__nepochs=1, training__learning_rate=jobs.STILL, training__batch_size=16,
        )  # fmt: skip
        weights = jobs.drawn_weights(oracle.shapes(job.config))
        patterns = procedural_patterns(scan.probe, scan.scan.bad_pixels, job.config)
        losses = backend.train(replace(job, initial=weights, procedural=patterns)).losses
        doses = [patterns.draw(step, 1).dose for step in range(20)]
        assert 0.2 < min(doses) < 0.4 and 2.5 < max(doses) < 5
        steps = 2 if source == 'procedural' else 16  # 32 patterns, or as many steps as 32 regions need
        expected = np.mean([oracle.drawn_loss(patterns, n, 16, job.config, weights) for n in range(steps)])
        if source == 'mixed':
            expected = (expected + oracle.epoch_losses(scan, job.splits[0], job.config, weights)[0]) / 2
        assert losses[0][1] == pytest.approx(expected, rel=1e-4)

    def test_probe_and_scale_move_within_their_bounds(self, backend: Backend, conformance_runs: Runs) -> None:
        """B32, AMPLITUDE: a trained probe keeps its power; a trained scale stays within 5 % and is in the probe."""
        before = jobs.prepared(backend).probe
        power = float((np.abs(before) ** 2).sum())
        moved = conformance_runs.of(training__probe_trainable=True).trained.probes[0]
        assert np.abs(moved - before).max() > 1e-4 * np.abs(before).max()
        assert float((np.abs(moved) ** 2).sum()) == pytest.approx(power, rel=1e-5)
        settings: dict[str, Any] = {'training__intensity_scale_trainable': True, 'training__learning_rate': 0.1}
        scaled = conformance_runs.of(**settings).trained.probes[0]
        factor = np.vdot(before, scaled) / np.vdot(before, before)
        assert np.abs(scaled - factor * before).max() < 1e-5 * np.abs(before).max()
        assert 1e-5 < abs(np.log(abs(factor))) <= 0.05 + 1e-6

    def test_several_scans_with_their_own_probes(self, backend: Backend, tmp_path: Path) -> None:
        """B23, B32: one with two modes, one that is only validated on; a probe each comes back, in order."""
        scans = (jobs.prepared(backend), jobs.prepared(backend, modes=2, seed=1), jobs.prepared(backend, seed=2))
        everything, nothing = np.arange(100), np.arange(0)
        splits = (Split(everything, nothing), Split(everything, nothing), Split(nothing, everything))
        heard = jobs.Listener()
        trained = jobs.train(backend, tmp_path, scans=scans, splits=splits, training__nepochs=1, emit=heard)
        assert all(np.array_equal(p, scan.probe) for p, scan in zip(trained.probes, scans, strict=True))
        assert heard.epochs[0]['patterns_seen'] == 2 * 6 * 16
        assert np.isfinite(heard.epochs[0]['val_loss'])

    def test_nothing_held_out_is_no_obstacle(self, conformance_runs: Runs) -> None:
        """B23, B32, B34, SETTINGS: with validation_fraction 0 all are trained on, and choose the best epoch."""
        everything, reference = conformance_runs.of(data__validation_fraction=0), conformance_runs.reference
        assert all('val_loss' not in row for row in everything.heard.epochs)
        assert everything.trained.summary['monitor'] == 'train_loss' and len(everything.trained.losses) == 2
        assert everything.trained.summary['patterns_seen'] > reference.trained.summary['patterns_seen']
        assert jobs.distance(everything.trained.weights, reference.trained.weights) > 1e-4

    def test_training_goes_on_from_given_weights(self, backend: Backend, tmp_path: Path) -> None:
        """B13, B30: without any it starts from fresh ones of the seed; those that do not fit are refused."""
        still: dict[str, Any] = {'training__learning_rate': jobs.STILL, 'training__nepochs': 1}
        fresh = backend.fresh_weights(jobs.configuration(backend), 7)
        found = jobs.train(backend, tmp_path / 'a', training__seed=7, **still).weights
        assert jobs.distance(found, fresh) < 1e-12
        bad = {**fresh, 'head.bias': np.zeros(3, np.float32)}
        with pytest.raises(ModelFileError, match=r'head\.bias'):
            jobs.train(backend, tmp_path / 'b', initial=bad)

    @pytest.mark.slow
    def test_a_loss_that_is_not_finite_ends_the_training(
        self, backend: Backend, tmp_path: Path, conformance_runs: Runs
    ) -> None:
        """B40, NANSAFE: a sentence with epoch and remedy; the last good checkpoint resumes as if nothing had been."""
        scan = jobs.scan()
        detector = np.array(scan.diffraction, dtype=np.float32)
        failing = prepare_scan(replace(scan, diffraction=detector), stride=backend.stride)

        def fail(event: Event) -> None:
            if event.kind == 'epoch' and event.data['epoch'] == 2:
                detector[...] = np.nan

        job = jobs.job(backend, tmp_path, (failing,), emit=fail, **jobs.LONG)
        with pytest.raises(TrainingError, match=r'epoch [34].*learning_rate'):
            backend.train(job)
        detector[...] = scan.diffraction
        resumed = backend.train(replace(job, resume=True))
        assert list(resumed.losses) == list(conformance_runs.whole.trained.losses)
        assert jobs.distance(resumed.weights, conformance_runs.whole.trained.weights) == 0

    def test_what_cannot_be_trained_is_refused_before_the_first_step(self, backend: Backend, tmp_path: Path) -> None:
        """B41, N: a region too large, scans of two sizes, a logger that is not installed."""
        few = Split(np.arange(5), np.arange(0))
        small, large = jobs.prepared(backend), jobs.prepared(backend, n=48, positions=30)
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
        backend.check(jobs.configuration(backend))
        if importlib.util.find_spec('mlflow') is not None:
            pytest.skip('MLflow is installed here')
        with pytest.raises(ConfigError, match='pip install mlflow'):
            backend.check(jobs.configuration(backend, execution__logger_backend='mlflow'))
