"""A training that starts from a model: stopped and resumed, judged, and its learning rate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import TRAIN, epochs_in, ok, printed, run, told
from scans import backend_options, short_config, small_scan

from ptychopinn_reconstructor.config import Config, RefinementConfig
from ptychopinn_reconstructor.events import Epoch, Event
from ptychopinn_reconstructor.io import write_npz
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.reconstruction.refinement import refinement_options
from ptychopinn_reconstructor.training.train import train

RUINOUS = ('--learning-rate', 0.1, '--batch-size', 16, '--device', 'cpu')


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory, backend_name: str) -> Path:
    """scan.npz, and model/ trained on it, from which a large rate only leads away."""
    folder = tmp_path_factory.mktemp('work')
    write_npz(folder / 'scan.npz', small_scan())
    train([small_scan()], short_config(training__nepochs=8), folder / 'model')
    return folder


def stopped(work: Path, folder: Path) -> tuple[Any, ...]:
    """The command of a fine-tuning that ruins its model, stopped in its third epoch; what it started from is gone."""
    start = folder / 'from' / 'model.safetensors'
    start.parent.mkdir(parents=True)
    shutil.copy(work / 'model' / 'model.safetensors', start)
    line = ('train', *backend_options(), work / 'scan.npz', '--output-dir', folder / 'm')
    config = printed('--from', start, *RUINOUS, *backend_options(), '--scheduler', 'constant', '--epochs', 4)
    epochs: list[Event] = []

    def emit(event: Event) -> None:
        if isinstance(event, Epoch):
            epochs.append(event)

    trained = train(
        [small_scan()], config, folder / 'm', initial=start, emit=emit, should_stop=lambda: len(epochs) >= 2
    ).trained
    assert trained.interrupted and epochs_in(folder / 'm') == [1, 2]
    start.unlink()
    return line


@pytest.mark.slow
def test_a_resumed_training_knows_the_model_it_started_from(work: Path, tmp_path: Path) -> None:
    """C21, C23: without --from, and with its file gone: where the training makes it worse, the start is kept."""
    line = stopped(work, tmp_path)
    start = open_model(work / 'model' / 'model.safetensors').weights
    values = told(*line, '--resume')
    assert epochs_in(tmp_path / 'm') == [1, 2, 3, 4]
    assert values['start_kept'] is True and values['residual'] > 1.2 * values['start_residual']
    found = open_model(tmp_path / 'm' / 'model.safetensors')
    assert all(np.array_equal(found.weights[name], start[name]) for name in start)
    assert any('the model it started from is kept' in note for note in values['notes'])


@pytest.mark.slow
def test_a_resumed_training_is_given_its_own_model_or_none(work: Path, tmp_path: Path) -> None:
    """C22: another is refused, and a training anew in the same folder forgets it."""
    line = ('train', *backend_options(), work / 'scan.npz', *RUINOUS[2:])
    ok(*line, '--output-dir', tmp_path / 'fresh', '--epochs', 1)
    ok(*line, '--output-dir', tmp_path / 'tuned', '--epochs', 1, '--from', work / 'model' / 'model.safetensors')
    more = ('--resume', '--epochs', 2)
    for folder, given, words in (
        ('fresh', work / 'model' / 'model.safetensors', 'did not start from a model'),
        ('tuned', tmp_path / 'fresh' / 'model.safetensors', 'started from another model'),
    ):
        refused = run(*map(str, (*line, '--output-dir', tmp_path / folder, *more, '--from', given)))
        assert refused.exit_code == 2 and words in refused.stderr and str(given) in refused.stderr
        assert epochs_in(tmp_path / folder) == [1]
    assert (
        told(*line, '--output-dir', tmp_path / 'tuned', *more, '--from', work / 'model' / 'model.safetensors')['epochs']
        == 2
    )
    assert 'start_kept' not in told(*line, '--output-dir', tmp_path / 'fresh', *more)
    ok(*line, '--output-dir', tmp_path / 'tuned', '--epochs', 1, '--overwrite')
    assert not (tmp_path / 'tuned' / 'start.safetensors').exists()


def test_it_is_judged_by_what_a_user_gets(work: Path, tmp_path: Path) -> None:
    """C23: the number of passes is the one that the overlap of the scan asks for."""
    for step, passes in ((4.0, 5), (6.0, 6)):
        scan = small_scan(step=step)
        assert refinement_options(RefinementConfig(), prepare_scan(scan), start='network').passes == passes
        config = short_config(training__nepochs=1, training__learning_rate=1e-6)
        notes = train([scan], config, tmp_path / str(passes), initial=work / 'model' / 'model.safetensors').notices
        assert any(n.code == 'model_kept' and n.text.startswith(f'Residual after {passes} passes: ') for n in notes)


def test_the_learning_rate_of_a_training_that_starts_from_a_model(work: Path, tmp_path: Path) -> None:
    """A quarter of the usual one, unless the command line or the file sets another; and it is what is trained with."""
    start = ('--from', work / 'model' / 'model.safetensors')
    usual, rate = Config().training.learning_rate, 5e-4
    assert printed(*start) == Config().merged({'training': {'learning_rate': rate}})
    (tmp_path / 'c.yaml').write_text(f'training: {{learning_rate: {usual}}}\n')
    (tmp_path / 'other.yaml').write_text('training: {nepochs: 3}\n')
    for options, expected in (
        (('--learning-rate', usual), usual),
        (('--set', 'learning_rate=0.001'), 1e-3),
        (('--config', tmp_path / 'c.yaml'), usual),
        (('--config', tmp_path / 'other.yaml'), rate),
    ):
        assert printed(*start, *options).training.learning_rate == expected
    ok(*TRAIN, work / 'scan.npz', *start, '--output-dir', tmp_path / 'm', '--epochs', 1, '--scheduler', 'constant')
    rows = (tmp_path / 'm' / 'metrics.csv').read_text().splitlines()
    row = dict(zip(rows[0].split(','), rows[1].split(','), strict=True))
    assert float(row['learning_rate']) == pytest.approx(rate)
    assert open_model(tmp_path / 'm' / 'model.safetensors').manifest.config.training.learning_rate == rate
