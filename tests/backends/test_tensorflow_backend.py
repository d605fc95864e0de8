"""The TensorFlow backend: what is its own; what every backend must do is in ptychopinn_reconstructor/conformance."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs
from numpy.typing import NDArray

from ptychopinn_reconstructor.backend import Backend, TrainedModel, load_backend
from ptychopinn_reconstructor.backend.batches import Step, Steps, make_steps
from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.conformance.jobs import (
    largest_difference,
    make_config,
    make_job,
    make_mixed_job,
    make_scan,
    run,
    train,
)
from ptychopinn_reconstructor.errors import ModelFileError, ScanError
from ptychopinn_reconstructor.physics.grouping import Split
from ptychopinn_reconstructor.physics.prepare import Patterns, prepare_scan
from ptychopinn_reconstructor.training.run import make_procedural_patterns

pytestmark = needs('tensorflow')
keras, tf = lazy('keras'), lazy('tensorflow')
callbacks, data, training = (lazy(f'{BACKENDS}.tensorflow_keras.{name}') for name in ('callbacks', 'data', 'training'))


@pytest.fixture(scope='module')
def backend() -> Backend:
    return load_backend('tensorflow')


class Done(NamedTuple):
    """A training, its folder, what it was given, and whether its job has been forgotten."""

    trained: TrainedModel
    folder: Path
    config: Config
    probe: NDArray[np.complex64]
    data: Patterns
    forgotten: bool


@pytest.fixture(scope='module')
def done(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A training that several tests look at: of the probe too, followed by TensorBoard."""
    folder = tmp_path_factory.mktemp('done')
    settings: dict[str, Any] = {'training__probe_trainable': True, 'execution__logger_backend': 'tensorboard'}
    asked = make_job(backend, folder, training__nepochs=2, **settings)
    config, probe, data = asked.config, asked.scans[0].probe, asked.scans[0].patterns(np.arange(4))
    trained = backend.train(asked)
    left = weakref.ref(asked)
    del asked
    gc.collect()
    return Done(trained, folder, config, probe, data, left() is None)


def test_nothing_of_a_job_is_kept_after_it(done: Done) -> None:
    """B31: TensorFlow remembers every function it is given, but neither scans nor model stay in memory."""
    assert done.forgotten


def test_tensorboard_is_written_on_request(done: Done) -> None:
    """LOGGER: beside the losses in metrics.csv."""
    assert list(done.folder.glob('tensorboard/**/events.*'))


TALKATIVE = """
import sys
sys.stderr.write('WARNING: All log messages before absl::InitializeLog() is called\\n')
sys.stderr.write('I0000 00:01 port.cc] on\\nE0000 broken\\nwarning')
"""


IMPORT = """
import sys
from ptychopinn_reconstructor.backends.tensorflow_keras.framework import import_framework
sys.path.insert(0, sys.argv[1])
print('begin', file=sys.stderr)
import_framework('talkative')
"""


@pytest.mark.slow
@pytest.mark.parametrize(('level', 'lines'), [('2', ['E0000 broken', 'warning']), ('0', 4)])
def test_what_tensorflow_says_too_early_is_left_out(tmp_path: Path, level: str, lines: list[str] | int) -> None:
    """Where TF_CPP_MIN_LOG_LEVEL asks for warnings only; whatever else is written comes through."""
    (tmp_path / 'talkative.py').write_text(TALKATIVE)
    command = [sys.executable, '-P', '-c', IMPORT, str(tmp_path)]
    environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    heard = done.stderr.partition('begin\n')[2].splitlines()
    assert heard == lines or len(heard) == lines


@pytest.mark.slow
def test_our_programs_import_tensorflow_without_a_word() -> None:
    """As they set TF_CPP_MIN_LOG_LEVEL: what is on stderr is an error of ours, or one of TensorFlow's."""
    script = "from ptychopinn_reconstructor.backend import load_backend; load_backend('tensorflow').devices()"
    quiet = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run([sys.executable, '-P', '-c', script], env=quiet, capture_output=True, text=True, check=True)
    assert done.stderr == ''


OPEN = """
import sys, keras, numpy as np
import ptychopinn_reconstructor.backends.tensorflow_keras.model
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
data = np.load(sys.argv[2])
amplitude, phase = model.predict_on_batch([data['root4'], data['back']])
np.savez(sys.argv[3], patches=amplitude * np.exp(1j * phase), probe=model.current_probes()[0])
"""


def test_checkpoint_describes_itself(done: Done, backend: Backend) -> None:
    """CHECKPOINT: plain JSON settings inside, rebuilt in safe mode from the path alone."""
    path = done.folder / 'checkpoints' / 'best.keras'
    with zipfile.ZipFile(path) as archive:
        inside = json.loads(archive.read('config.json'))['config']
    assert inside['config'] == done.config.to_json()
    assert inside['state']['epoch'] in (1, 2) and inside['state']['patterns_seen'] > 0
    model = keras.saving.load_model(path, safe_mode=True)
    amplitude, phase = model.predict_on_batch([done.data.root4, done.data.backprojection])
    expected = backend.network(done.config, done.trained.weights, 'cpu').predict(*done.data[1:3])
    assert np.abs(amplitude * np.exp(1j * phase) - expected).max() < 1e-6
    assert np.array_equal(model.current_probes()[0], done.trained.probes[0])
    assert np.abs(done.trained.probes[0] - done.probe).max() > 0
    powers = [float((np.abs(probe) ** 2).sum()) for probe in (done.trained.probes[0], done.probe)]
    assert powers[0] == pytest.approx(powers[1], rel=1e-5)


@pytest.mark.slow
def test_checkpoint_opens_in_another_process(done: Done, backend: Backend, tmp_path: Path) -> None:
    """CHECKPOINT: with nothing but the module that describes the model imported."""
    np.savez(tmp_path / 'in.npz', root4=done.data.root4, back=done.data.backprojection)
    path = done.folder / 'checkpoints' / 'best.keras'
    arguments: list[str | Path] = [sys.executable, '-P', '-c', OPEN, path, tmp_path / 'in.npz', tmp_path / 'out.npz']
    subprocess.run(arguments, check=True, cwd=tmp_path, capture_output=True)
    found = np.load(tmp_path / 'out.npz')
    expected = backend.network(done.config, done.trained.weights, 'cpu').predict(*done.data[1:3])
    assert np.abs(found['patches'] - expected).max() < 1e-6
    assert np.array_equal(found['probe'], done.trained.probes[0])


@pytest.mark.slow
@needs('torch')
@pytest.mark.parametrize('model_type', ['pinn', 'supervised', 'mixed'])
def test_twenty_steps_lose_as_pytorch_does(tmp_path: Path, backend: Backend, model_type: str) -> None:
    """Same initial weights, data order and seed: the loss of each of 20 steps agrees to 1e-3 relative.

    Measured: 1.1e-4 (pinn) and 7e-5 (supervised); epsilon in the first steps is all that differs. In a mixed training
    the probe is moved by momentum alone in every step with labels.
    """
    pinn, mixed = model_type != 'supervised', model_type == 'mixed'
    settings: dict[str, Any] = {
        'model__model_type': 'pinn' if mixed else model_type,
        'data__source': 'mixed' if mixed else 'scans',
        'data__n_groups': 2 if pinn else 16,  # a step is an epoch, so that its loss is told
        'training__nepochs': 20,
        'training__probe_trainable': pinn,
        'training__intensity_scale_trainable': pinn,
    }
    first = backend.draw_weights(make_config(backend, **settings), 3)
    everything = Split(np.arange(100), np.arange(0))
    losses, probes = [], []
    for name in ('torch', 'tensorflow'):
        other = load_backend(name)
        asked = make_job(other, tmp_path / name, splits=(everything,), initial=first, **settings)
        if mixed:
            asked = replace(asked, procedural=make_procedural_patterns(asked.scans[0].probe, None, asked.config))
        trained = other.train(asked)
        losses.append([loss for _, loss in trained.losses])
        probes.append(trained.probes[0] - asked.scans[0].probe)
    assert len(losses[0]) == 20 and losses[0][0] > 1.1 * min(losses[0])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    if pinn:
        assert np.abs(probes[1] - probes[0]).max() < 0.05 * np.abs(probes[0]).max()


@pytest.mark.slow
def test_keras_on_another_framework_is_refused(tmp_path: Path) -> None:
    """BACKEND: Keras set to run elsewhere is an error that says how to set it back, before anything is written."""
    from ptychopinn_reconstructor.io import write_npz

    write_npz(tmp_path / 'scan.npz', make_scan())
    command = [sys.executable, '-P', '-m', 'ptychopinn_reconstructor', 'train', 'scan.npz', '--output-dir', 'out']
    result = subprocess.run(
        [*command, '--backend', 'tensorflow'],
        env={**os.environ, 'KERAS_BACKEND': 'numpy'},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2 and not (tmp_path / 'out').exists()
    assert 'TensorFlow backend selected' in result.stderr and 'KERAS_BACKEND=tensorflow' in result.stderr


def test_what_goes_wrong_in_the_pipeline_is_kept_as_it_was(tmp_path: Path, backend: Backend) -> None:
    """B42: TensorFlow wraps what is raised in its own words; the second of two epochs is the one that goes wrong."""
    steps = make_steps(make_job(backend, tmp_path, training__nepochs=2))
    broken, source = ScanError('the file is gone'), data.Source(steps)

    def draw_epoch(epoch: int) -> list[Step]:
        if epoch:
            raise broken
        return Steps.draw_epoch(steps, 0)

    steps.draw_epoch = draw_epoch  # type: ignore[method-assign]
    batches = iter(source.training(0))
    assert [next(batches).counts.shape[-1] for _ in range(len(steps))] == [32] * len(steps)
    with pytest.raises(tf.errors.OpError):
        next(batches)
    assert source.error is broken


def test_a_resumed_training_takes_over_all_that_was_saved(done: Done, backend: Backend, tmp_path: Path) -> None:
    """B38: weights, the optimizer's moments and its count of steps, and what the journal remembers."""
    asked, path = make_job(backend, tmp_path, initial=done.trained.weights), done.folder / 'checkpoints' / 'last.keras'
    with pytest.raises(ModelFileError, match='another network or probe'):
        training.restore_checkpoint(training.build_model(asked), path)  # without the trained probe
    model, saved = training.build_model(replace(asked, config=done.config)), training.load(path)
    state = training.restore_checkpoint(model, path)
    for mine, other in ((model.variables, saved.variables), (model.optimizer.variables, saved.optimizer.variables)):
        assert len(mine) == len(other) and all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))
    assert int(model.optimizer.iterations) == done.trained.summary['patterns_seen'] // 16
    assert state['epoch'] == 2 and state['patterns_seen'] == done.trained.summary['patterns_seen']
    assert state['losses'] == [list(pair) for pair in done.trained.losses]


@pytest.mark.parametrize(('earlier', 'best'), [([], None), ([{'val_loss': 3.0}, {'val_loss': 5.0}], 3.0)])
def test_the_best_checkpoint_is_one_that_beats_all_earlier_epochs(
    earlier: list[dict[str, float]], best: float | None, tmp_path: Path
) -> None:
    """B32: wherever the folder lies now; the last one is written last, since a resume believes it."""
    first, last = callbacks.make_checkpoint_callbacks(tmp_path / '{a}', 'val_loss', earlier)
    assert (first.monitor, first.save_best_only, first.best) == ('val_loss', True, best)
    assert first.mode == 'min' and not last.save_best_only
    assert [Path(one.filepath.format()).name for one in (first, last)] == ['best.keras', 'last.keras']


@pytest.mark.slow
def test_what_goes_wrong_in_the_pipeline_reaches_the_caller(tmp_path: Path, backend: Backend) -> None:
    """B42: an error in the thread that prepares batches arrives as itself, not in TensorFlow's wrapping."""
    whole = make_scan()
    assert whole.object is not None
    small = prepare_scan(replace(whole, object=whole.object[:40]), mode='absolute', stride=16)
    with pytest.raises(ScanError, match='does not cover every scan position'):
        train(backend, tmp_path, scans=(small,), model__model_type='supervised')


THREADS = """
import sys, numpy as np, tensorflow as tf
from pathlib import Path
from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.conformance.jobs import train
backend, folder = load_backend('tensorflow'), Path(sys.argv[1])
one, two = (train(backend, folder / name, execution__threads=2).weights for name in 'ab')
assert all(np.array_equal(one[name], two[name]) for name in one)
np.savez(folder / 'out.npz', threads=tf.config.threading.get_intra_op_parallelism_threads(), **one)
"""


@pytest.mark.slow
def test_several_threads_are_used_and_deterministic(tmp_path: Path, backend: Backend) -> None:
    """B31: TensorFlow takes their number once, so they have a process; another order of sums, always the same."""
    said = run(['-c', THREADS, tmp_path], tmp_path)
    assert said.returncode == 0, said.stderr
    two = dict(np.load(tmp_path / 'out.npz'))
    assert int(two.pop('threads')) == 2
    assert largest_difference(train(backend, tmp_path / 'one', execution__threads=1).weights, two) < 1e-3


@pytest.mark.parametrize('damage', ['truncated', 'another network'])
def test_a_checkpoint_that_does_not_fit_is_refused(done: Done, tmp_path: Path, backend: Backend, damage: str) -> None:
    """BADLOAD: resuming from a broken file, or with another network, is an error that says what to do."""
    (tmp_path / 'checkpoints').mkdir()
    last = tmp_path / 'checkpoints' / 'last.keras'
    content = (done.folder / 'checkpoints' / 'last.keras').read_bytes()
    last.write_bytes(content[:-2000] if damage == 'truncated' else content)
    before = last.read_bytes()
    with pytest.raises(ModelFileError, match=r'checkpoint .*last.keras'):
        train(backend, tmp_path, resume=True, model__n_filters_scale=1, training__nepochs=4)
    assert last.read_bytes() == before


def test_labels_do_not_train_the_probe(tmp_path: Path, backend: Backend) -> None:
    """S10: where there are labels the probe is a weight of the loss; the likelihood of the same training moves it."""
    import tensorflow as tf

    from ptychopinn_reconstructor.backends.tensorflow_keras.data import Source
    from ptychopinn_reconstructor.backends.tensorflow_keras.training import build_model

    asked = make_mixed_job(backend, tmp_path)
    source, model, seen = Source(make_steps(asked)), build_model(asked), set[bool]()
    for batch in source.training(0).take(6):
        simulated = int(tf.size(batch.labels)) > 0
        if simulated not in seen:
            with tf.GradientTape() as tape:
                loss = model.loss_of(batch)
            probe, scale, kernel = tape.gradient(loss, [model.probe_change, model.log_scale, model.network.weights[0]])
            assert (probe is None) is (scale is None) is simulated and kernel is not None
        seen.add(simulated)
    assert seen == {True, False}
