"""Train, stop, resume, infer in the window of Ptychodus, and what it says when something goes wrong."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grids import same_grid
from ptychodus.api.io import load_product
from window import HANG, QTest, Window, shown, workers

from ptychopinn_reconstructor.host.panel import VERDICT_COLORS
from ptychopinn_reconstructor.host.readiness import describe_training
from ptychopinn_reconstructor.host.session import Session
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.training.folder import can_resume, count_epochs

LONG = 400  # epochs that no test waits for
SAME = 1e-6


def wait(condition: Any) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + HANG / 1000
    while not condition():
        assert time.monotonic() < end, 'gave up waiting'
        QTest.qWait(20)


def short(window: Window, epochs: int = LONG) -> None:
    """Settings of a training of seconds."""
    for name, value in {'nepochs': epochs, 'n_filters_scale': 1, 'device': 'cpu'}.items():
        window.settings[name].set_value(value)


def resume(window: Window, folder: Path, *, epochs: int) -> int:
    """Go on with the training in a folder, to its end and from an empty log; its product."""
    window.select('pinn')
    short(window, epochs=epochs)
    window.settings['resume'].set_value(True)
    window.progress.text_edit.clear()
    window.train(folder)
    product = window.products.currentIndex()
    wait(window.is_idle)
    window.settings['resume'].set_value(False)
    return product


@dataclass
class Stopped:
    """A training that was stopped, and what the window showed while it ran."""

    folder: Path
    product: int
    selected: str
    curve: list[float]
    object: Any
    progress: tuple[int, int, bool]
    status_running: str
    held_out: list[str]
    held_out_after: list[str]
    train: tuple[bool, str]
    infer: bool
    status: str
    epochs: int
    training: Any
    log: str


@pytest.fixture(scope='module')
def stopped(shared_window: Window, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """Train, look, try to train once more, stop."""
    window, folder = shared_window, tmp_path_factory.mktemp('training')
    window.select('pinn')
    short(window)
    window.progress.text_edit.clear()
    window.train(folder)
    product = window.products.currentIndex()
    before = window.object_of(product)
    wait(lambda: len(window.curve()) >= 3 and not np.array_equal(window.object_of(product), before))
    bar = window.progress.progress_bar
    looked: dict[str, Any] = {
        'selected': window.products.currentText(),
        'curve': window.curve(),
        'object': window.object_of(product),
        'progress': (bar.value(), bar.maximum(), window.progress.stop_button.isVisible()),
    }
    wait(lambda: 'an epoch' in window.status())
    looked |= {
        'status_running': window.status(),
        'held_out': [str(line.get_label()) for line in window.progress.axes.get_lines()],
        'train': (window.actions.train_button.isEnabled(), window.actions.train_button.toolTip()),
    }
    window.picture('running')
    window.click(window.progress.stop_button)
    wait(lambda: not window.api.task_monitor.is_processing)
    wait(window.is_idle)
    infer = window.actions.reconstruct_button.isEnabled() and window.library.reconstructors[0].is_model_loaded()
    return Stopped(
        folder,
        product,
        infer=infer,
        held_out_after=[str(line.get_label()) for line in window.progress.axes.get_lines()],
        status=window.status(),
        epochs=count_epochs(folder),
        training=open_model(folder / 'model.safetensors').manifest.training,
        log=window.log(),
        **looked,
    )


def test_a_training_shows_its_losses_its_object_and_its_progress(stopped: Stopped) -> None:
    assert stopped.selected == 'simulated_ptychopinn_pinn_training'
    assert all(np.isfinite(stopped.curve)) and stopped.curve[-1] < stopped.curve[0]
    assert np.iscomplexobj(stopped.object) and np.std(np.abs(stopped.object)) > 0
    value, maximum, has_stop = stopped.progress
    assert 0 < value <= maximum == LONG and has_stop
    assert 'Epoch 1 of 400: loss' in stopped.log and 'PyTorch on cpu' in stopped.log


def test_no_second_training_can_be_started_while_one_runs(stopped: Stopped) -> None:
    assert stopped.train == (False, describe_training(Session(is_training=True)))
    assert 'stop it, or wait' in stopped.train[1]


def test_the_status_says_how_long_a_training_takes(stopped: Stopped) -> None:
    """Seconds an epoch and time left, and the held-out loss, which is a second curve too, and stays one."""
    said = r'Epoch \d+ of 400: loss [\d.e-]+, held-out loss [\d.e-]+; [\d.]+ s an epoch, \d+ (s|min) left'
    assert re.search(said, stopped.status_running)
    assert stopped.held_out == stopped.held_out_after == ['Loss', 'Held-out loss']
    assert 'an epoch' not in stopped.status


def test_stop_ends_a_training_and_leaves_the_model_of_its_best_epoch(stopped: Stopped) -> None:
    """How soon is measured by `make bench`."""
    assert 'Stopped on request' in stopped.log and can_resume(stopped.folder)
    assert 'The best epoch of the stopped training becomes a model.' in stopped.log
    assert stopped.training.interrupted and 3 <= stopped.training.epochs == stopped.epochs < LONG
    assert stopped.infer and f'stopped after {stopped.epochs} of {LONG} epochs' in stopped.status


@pytest.fixture(scope='module')
def completed(shared_window: Window, stopped: Stopped) -> tuple[str, str]:
    """Status and log after the stopped training was resumed with fewer epochs than it has."""
    resume(shared_window, stopped.folder, epochs=stopped.epochs - 1)
    return shared_window.status(), shared_window.log()


def test_a_stopped_training_is_made_complete_by_asking_for_fewer_epochs(
    stopped: Stopped, completed: tuple[str, str]
) -> None:
    status, log = completed
    assert f'already, more than the {stopped.epochs - 1} asked for: none is added' in log
    assert f"set 'Epochs' to more than {stopped.epochs}" in log
    assert f'trained on simulated (100 patterns, {stopped.epochs} epochs)' in status and 'stopped' not in status


@dataclass
class Trained:
    """A training that was gone on with to its end."""

    model: Path
    product: int
    before: int
    status: str
    can_infer: bool
    log: str


@pytest.fixture(scope='module')
def trained(shared_window: Window, stopped: Stopped, completed: tuple[str, str]) -> Trained:
    """Resume the stopped training for three epochs more."""
    window, before = shared_window, count_epochs(stopped.folder)
    product = resume(window, stopped.folder, epochs=before + 3)
    can_infer = window.actions.reconstruct_button.isEnabled()
    model = stopped.folder / 'model.safetensors'
    return Trained(model, product, before, window.status(), can_infer, window.log())


def test_a_training_is_resumed_to_its_end(trained: Trained) -> None:
    assert f'Epoch {trained.before + 1} of {trained.before + 3}' in trained.log
    assert 'Epoch 1 of' not in trained.log and f'Resuming after epoch {trained.before}.' in trained.log
    assert count_epochs(trained.model.parent) == trained.before + 3


def test_after_a_training_its_model_is_in_use(window: Window, trained: Trained) -> None:
    assert trained.can_infer
    for said in ('model.safetensors', 'PINN, PyTorch, N = 32', 'grid size 1', 'trained on simulated (100 patterns'):
        assert said in trained.status
    window.settings['model_path'].set_value(trained.model)
    window.select('supervised')
    assert 'model.safetensors' in window.status()


def test_infer_shows_the_object(window: Window, trained: Trained) -> None:
    window.settings['model_path'].set_value(trained.model)
    window.infer()
    wait(window.is_idle)
    product = window.products.currentIndex()
    assert window.products.currentText() == 'simulated_ptychopinn_pinn'
    found, start = window.object_of(product), window.object_of(0)
    assert found.shape == start.shape and np.ptp(np.angle(found)) > 0.1 and np.ptp(np.angle(start)) == 0
    assert len(window.curve()) == trained.before + 3
    window.picture('finished')
    record = window.library.session.reliability.record
    assert record is not None and record.verdict is not None
    assert f'color: {VERDICT_COLORS[record.verdict.word]}' in window.status()
    assert f'{record.product}: Fits to ' in window.status() and f': {record.verdict.word}' in window.status()
    window.view.object_action.trigger()
    table = window.view.object_view.tree_view
    rows = table.model()
    assert rows is not None
    table.setCurrentIndex(rows.index(product, 0))
    window.picture('object')
    window.view.processing_action.trigger()
    assert not window.errors


def test_the_command_line_finds_the_same_object(
    window: Window, trained: Trained, scan_folder: Path, tmp_path: Path
) -> None:
    window.settings['model_path'].set_value(trained.model)
    window.settings['device'].set_value('cpu')
    window.infer()
    wait(window.is_idle)
    in_the_window = window.product(window.products.currentIndex()).get_product().object_
    command = [Path(sys.executable).with_name('ptychopinn'), 'reconstruct', scan_folder, '--model', trained.model]
    options = ['--device', 'cpu', '--quiet', '--output-dir', tmp_path]
    subprocess.run([str(word) for word in (*command, *options)], check=True, timeout=300, capture_output=True)
    one, other = same_grid(load_product(tmp_path / 'product.h5').object_, in_the_window)
    assert one.shape == other.shape and min(one.shape) > 50 and np.ptp(np.abs(one)) > 0.01
    assert np.abs(one - other).max() < SAME


def test_a_loaded_model_can_be_used_at_once(window: Window, trained: Trained) -> None:
    assert not window.actions.reconstruct_button.isEnabled()
    window.load_model(trained.model)
    wait(window.is_idle)
    assert window.actions.reconstruct_button.isEnabled() and not window.errors
    assert 'N = 32' in window.status()
    assert shown(window.widget('model_path')) == str(trained.model)


def test_a_broken_model_is_refused_in_a_dialog_and_in_the_log(window: Window, tmp_path: Path) -> None:
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'PK not a model')
    window.load_model(broken)
    assert [who for who, _ in window.errors] == ['Load Model'] and 'broken.safetensors' in window.errors[0][1]
    wait(lambda: 'broken.safetensors' in window.log())
    assert 'No model' in window.status()


def test_an_unknown_backend_is_told_in_the_log(window: Window, tmp_path: Path) -> None:
    window.settings['backend'].set_value('JAX')
    count, selected = window.products.count(), 0
    window.train(tmp_path)
    wait(window.is_idle)
    assert (window.products.count(), window.products.currentIndex()) == (count, selected)
    assert f'color: {VERDICT_COLORS["bad"]}' in window.status() and 'JAX' in window.status()
    titles = 'PyTorch, TensorFlow, ONNX Runtime'
    assert f"[PtychoPINNPlugin] Backend = 'JAX' is not known; choose one of: {titles}." in window.log()
    assert not list(tmp_path.iterdir())


def test_a_job_that_fails_before_it_begins_leaves_no_product_and_its_error(
    window: Window, trained: Trained, tmp_path: Path
) -> None:
    """The error stays on top of the panel until the next job, whose own line replaces it; the log's end is in sight."""
    window.settings['model_path'].set_value(trained.model)
    (tmp_path / 'file').touch()
    window.settings['scratch_dir'].set_value(str(tmp_path / 'file'))
    count = window.products.count()
    window.infer()
    wait(window.is_idle)
    assert (window.products.count(), window.products.currentIndex()) == (count, 0)
    assert "is no folder; name a folder with more ('Scratch folder')." in html.unescape(window.status())
    assert f'color: {VERDICT_COLORS["bad"]}' in window.status()
    window.picture('failed')
    bar = window.progress.text_edit.verticalScrollBar()
    assert bar.value() == bar.maximum()
    window.settings['scratch_dir'].set_value('')
    window.infer()
    assert 'Starting PyTorch ...' in window.status() and 'is no folder' not in window.status()
    wait(window.is_idle)
    assert window.products.count() == count + 1 and 'Starting' not in window.status()


def test_the_log_follows_after_it_was_made_smaller_but_not_away_from_where_one_reads(window: Window) -> None:
    text, bar = window.progress.text_edit, window.progress.text_edit.verticalScrollBar()
    logger = window.library.get_logger()

    def log(count: int) -> None:
        for number in range(count):
            logger.info('line %d', number)
        window.library.session.changed()
        QTest.qWait(50)

    log(100)
    assert bar.value() == bar.maximum() > 0
    text.setMaximumHeight(60)
    QTest.qWait(50)
    log(1)
    assert bar.value() == bar.maximum()
    bar.triggerAction(bar.SliderToMinimum)
    QTest.qWait(50)
    log(1)
    assert bar.value() == 0
    bar.triggerAction(bar.SliderToMaximum)
    text.setMaximumHeight(10_000)
    QTest.qWait(50)
    log(1)
    assert bar.value() == bar.maximum()


def test_a_killed_worker_is_told_in_the_log(window: Window, tmp_path: Path) -> None:
    short(window)
    window.train(tmp_path)
    wait(lambda: 'Epoch 1 of' in window.log())
    (pid,) = workers()
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not window.api.task_monitor.is_processing)
    wait(lambda: 'exit code -9' in window.log())
    assert 'out of memory' in window.log()
    wait(window.is_idle)
    assert window.actions.train_button.isEnabled()
