"""The folder of a training: what is in it, going on with it, replacing it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from scans import short_config

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.events import Event, Log, Progress, Started
from ptychopinn_reconstructor.reconstruction.writing import write_config
from ptychopinn_reconstructor.training.folder import (
    can_resume,
    check_resumable,
    copy_start_model,
    count_epochs,
    find_start_model,
    read_stored_config,
    replace_earlier,
    set_aside,
)

TRAIN_STEP = Progress('train', 1, 9)
HEADER = 'epoch,train_loss,val_loss,learning_rate,patterns_seen,cpu_seconds\n'


def fill(folder: Path, config: Config | None = None, *, epochs: int = 3) -> Path:
    """What a training leaves, in its files' names."""
    (folder / 'checkpoints').mkdir(parents=True)
    for name in ('model.safetensors', 'checkpoints/last.ckpt', 'checkpoints/best.ckpt'):
        (folder / name).write_text(f'earlier {name}')
    write_config(folder / 'config.yaml', config or short_config())
    rows = ''.join(f'{epoch},0.5,0.6,0.001,100,1.5\n' for epoch in range(1, epochs + 1))
    (folder / 'metrics.csv').write_text(HEADER + rows)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('missing', ['checkpoints/last.ckpt', 'config.yaml'])
def test_what_a_training_goes_on_from(tmp_path: Path, missing: str) -> None:
    assert not can_resume(tmp_path / 'absent')
    folder = fill(tmp_path / 'out', short_config(training__nepochs=7))
    assert can_resume(folder) and read_stored_config(folder).training.nepochs == 7
    (folder / missing).unlink()
    assert not can_resume(folder)
    with pytest.raises(ConfigError, match='nothing to resume') as raised:
        read_stored_config(folder)
    assert missing.split('.')[0] in str(raised.value)


def test_a_checkpoint_of_any_backend(tmp_path: Path) -> None:
    folder = fill(tmp_path / 'out')
    (folder / 'checkpoints' / 'last.ckpt').rename(folder / 'checkpoints' / 'last.keras')
    assert can_resume(folder)


@pytest.mark.parametrize('text', ['training: {nepochs: -3}', 'training: [', 'nonsense: {}'])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    folder = fill(tmp_path / 'out')
    (folder / 'config.yaml').write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_stored_config(folder)
    assert '\n\n' not in str(raised.value)


@pytest.mark.parametrize(
    ('change', 'value'),
    [('training__batch_size', 8), ('model__gridsize', 2), ('data__validation_fraction', 0.3), ('model__N', 64)],
)
def test_only_the_same_training_is_gone_on_with(change: str, value: float) -> None:
    stored = short_config(training__nepochs=5)
    other = short_config(**{'training__nepochs': 5, change: value})
    with pytest.raises(ConfigError, match=rf'{change.split("__")[1]} is .*, not {value}'):
        check_resumable(stored, other)


def test_what_a_resumed_training_may_change() -> None:
    stored = short_config(training__nepochs=5)
    for changes in (
        {'training__nepochs': 9, 'training__learning_rate': 1e-4},
        {'training__nepochs': 5, 'training__early_stop_patience': 2, 'training__max_cpu_seconds': 10.0},
        {'training__nepochs': 4, 'execution__device': 'auto', 'refinement__passes': 3},
    ):
        check_resumable(stored, short_config(**changes))


def test_a_training_keeps_the_model_that_it_starts_from(tmp_path: Path) -> None:
    folder, model, other = fill(tmp_path / 'out'), tmp_path / 'model.safetensors', tmp_path / 'other.safetensors'
    model.write_text('start')
    other.write_text('other')
    assert (
        find_start_model(folder, str(model), resume=False) == model
        and find_start_model(folder, None, resume=True) is None
    )
    with pytest.raises(ConfigError, match=r'did not start from a model; leave .*model\.safetensors out'):
        find_start_model(folder, model, resume=True)
    copy_start_model(folder, model)
    kept = find_start_model(folder, None, resume=True)
    assert kept is not None and kept.read_text() == 'start' and kept.parent == folder
    assert find_start_model(folder, model, resume=True) == find_start_model(folder, kept, resume=True) == kept
    for wrong in (other, tmp_path / 'absent.safetensors'):
        with pytest.raises(ConfigError, match=f'started from another model than .*{wrong.name}'):
            find_start_model(folder, wrong, resume=True)
    model.unlink()
    copy_start_model(folder, kept)
    assert kept.read_text() == 'start'
    copy_start_model(folder, None)
    assert not kept.exists() and find_start_model(folder, None, resume=True) is None


def test_epochs_are_those_of_complete_rows(tmp_path: Path) -> None:
    assert count_epochs(tmp_path) == 0
    folder = fill(tmp_path / 'out', epochs=4)
    assert count_epochs(folder) == 4
    with (folder / 'metrics.csv').open('a') as table:
        table.write(',')  # of a killed process
    assert count_epochs(folder) == 4
    (folder / 'metrics.csv').write_text(HEADER)
    assert count_epochs(folder) == 0


def test_an_earlier_training_stays_until_the_first_step_of_the_new_one(tmp_path: Path) -> None:
    folder = fill(tmp_path / 'out')
    before = content(folder)
    heard: list[Event] = []
    emit = replace_earlier(folder, heard.append)
    events: list[Event] = [Started('train', 'cpu', 'PyTorch'), Log('x'), Progress('refine', 1, 9)]
    for event in events:
        emit(event)
    assert content(folder) == before
    (folder / 'checkpoints' / 'last.ckpt').unlink()
    (folder / 'checkpoints' / 'last.ckpt').write_text('new')
    emit(TRAIN_STEP)
    left = content(folder)
    assert left.pop('checkpoints/last.ckpt') == 'new' and left.keys() == {'config.yaml', 'metrics.csv'}
    (folder / 'model.safetensors').write_text('new')
    emit(TRAIN_STEP)
    assert (folder / 'model.safetensors').read_text() == 'new'
    assert heard == [*events, TRAIN_STEP, TRAIN_STEP]


def test_an_earlier_training_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    """With the date of the training in its name; the model, which may be in use, under its own as well."""
    folder = fill(tmp_path / 'out')
    then = time.mktime((2024, 2, 3, 4, 5, 6, 0, 0, -1))
    os.utime(folder / 'model.safetensors', (then, then))
    os.utime(folder / 'checkpoints', (then, then))
    kept = set_aside(folder)
    assert [path.name for path in kept] == ['model-20240203-040506.safetensors', 'checkpoints-20240203-040506']
    assert content(folder).keys() == {
        'model.safetensors',
        'model-20240203-040506.safetensors',
        'checkpoints-20240203-040506/last.ckpt',
        'checkpoints-20240203-040506/best.ckpt',
        'config.yaml',
        'metrics.csv',
    }
    emit = replace_earlier(folder, lambda event: None)
    emit(TRAIN_STEP)
    assert (folder / 'model-20240203-040506.safetensors').read_text() == 'earlier model.safetensors'
    assert not (folder / 'model.safetensors').exists() and not can_resume(folder)


def test_nothing_is_kept_of_an_empty_folder(tmp_path: Path) -> None:
    assert set_aside(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_the_same_training_is_kept_once(tmp_path: Path) -> None:
    """Set aside again before a new one has written anything, as after two failed starts."""
    folder = fill(tmp_path / 'out')
    first = set_aside(folder)
    again = set_aside(folder)
    assert again == first[:1] and len(list(folder.glob('model*.safetensors'))) == 2


def test_two_trainings_of_one_second_are_both_kept(tmp_path: Path) -> None:
    folder = fill(tmp_path / 'out')
    then = time.mktime((2024, 2, 3, 4, 5, 6, 0, 0, -1))
    for number in (1, 2):
        (folder / 'model.safetensors').unlink()
        (folder / 'model.safetensors').write_text(f'model {number}')
        (folder / 'checkpoints').mkdir(exist_ok=True)
        (folder / 'checkpoints' / 'last.ckpt').write_text(f'last {number}')
        os.utime(folder / 'model.safetensors', (then, then))
        os.utime(folder / 'checkpoints', (then, then))
        set_aside(folder)
    kept = list(content(folder).values())
    assert {'model 1', 'model 2', 'last 1', 'last 2'} <= set(kept)
