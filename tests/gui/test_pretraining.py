"""Pretrain for the probe of the selected product, infer at once, and train from that model, in the window."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_jobs import LONG, short, wait
from window import Window, enter

from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.training.folder import can_resume

SOURCE = 'Pretrain for this probe'
# The host numbers the products of one name, and other tests have trained in this window.
TRAINED = r'simulated_ptychopinn_pinn_training(-\d+)?'
pytestmark = pytest.mark.slow


def test_the_button_says_what_train_would_do(window: Window) -> None:
    button = window.actions.train_button
    assert button.text() == 'Train'
    enter(window.widget('start_from_model'), True)
    assert button.text() == 'Fine-Tune'
    enter(window.widget('source'), SOURCE)
    assert window.settings['source'].get_value() == 'procedural' and button.text() == 'Pretrain'
    window.select('supervised')
    assert button.text() == 'Pretrain'
    ours = window.algorithm.currentIndex()
    others = [i for i in range(window.algorithm.count()) if 'ptychopinn_' not in window.algorithm.itemText(i)]
    if others:  # where the host has algorithms of its own
        window.algorithm.setCurrentIndex(others[0])
        window.algorithm.textActivated.emit(window.algorithm.currentText())
        assert button.text() == 'Train'
        window.algorithm.textActivated.emit(window.algorithm.itemText(ours))
    enter(window.widget('source'), 'Scans')
    enter(window.widget('start_from_model'), False)
    assert button.text() == 'Train'


@dataclass
class Pretrained:
    """A pretraining that was watched, and the inference that followed by one click."""

    folder: Path
    preview: Any
    center: tuple[float, float]
    during: str
    after: Any
    status: str
    selected: str
    found: str
    object: Any
    curve: list[float]
    errors: list[tuple[str, str]]
    log: str


@pytest.fixture(scope='module')
def pretrained(shared_window: Window, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """Choose the source in the panel, Train into an empty folder, wait, and press Infer."""
    window, folder = shared_window, tmp_path_factory.mktemp('pretraining')
    window.select('pinn')
    short(window, epochs=6)
    window.settings['n_groups'].set_value(1024)  # long enough to be seen while it runs
    enter(window.widget('source'), SOURCE)
    window.picture('pretraining-panel')
    window.progress.text_edit.clear()
    window.train(folder)
    product, before = window.products.currentIndex(), window.object_of(0)
    wait(lambda: window.object_of(product).shape != before.shape and len(window.curve()) >= 2)
    item = window.product(product).get_product().object_
    preview, center = item.get_array()[0], item.get_geometry().get_center()
    during = window.log()
    window.picture('pretraining')
    window.view.object_action.trigger()
    table = window.view.object_view.tree_view
    rows = table.model()
    assert rows is not None
    table.setCurrentIndex(rows.index(product, 0))
    window.picture('pretraining-object')
    window.view.processing_action.trigger()
    wait(window.is_idle)
    after, status, selected = window.object_of(product), window.status(), window.products.currentText()
    assert window.actions.reconstruct_button.isEnabled()
    window.click(window.actions.reconstruct_button)
    wait(window.is_idle)
    found = window.products.currentIndex()
    window.picture('pretrained')
    result = Pretrained(
        folder,
        preview,
        (center.x_m, center.y_m),
        during,
        after,
        status,
        selected,
        window.products.currentText(),
        window.object_of(found),
        window.curve(),
        list(window.errors),
        window.log(),
    )
    window.settings['source'].set_value('scans')
    return result


def test_a_pretraining_shows_a_simulated_object(window: Window, pretrained: Pretrained) -> None:
    """On its own canvas while it runs; then the product has the object of the scan again."""
    assert re.fullmatch(TRAINED, pretrained.selected)
    assert "Pretraining for the probe of the selected product 'simulated'." in pretrained.during
    assert 'Epoch 1 of 6: loss' in pretrained.during
    own = window.product(0).get_product().object_
    center = own.get_geometry().get_center()
    assert pretrained.center == (center.x_m, center.y_m)
    assert np.iscomplexobj(pretrained.preview) and np.ptp(np.angle(pretrained.preview)) > 0.05
    assert np.array_equal(pretrained.after, own.get_array()[0])


def test_infer_follows_at_once(window: Window, pretrained: Pretrained) -> None:
    """With one click: on the scan of the selected product, with the model that was just made."""
    assert pretrained.errors == []
    assert 'pretrained for its probe (6144 simulated patterns, 6 epochs)' in pretrained.status
    assert re.fullmatch(TRAINED + r'_ptychopinn_pinn(-\d+)?', pretrained.found)
    assert pretrained.object.shape == window.object_of(0).shape and np.ptp(np.angle(pretrained.object)) > 0.1
    assert len(pretrained.curve) == 6
    training = open_model(pretrained.folder / 'model.safetensors').manifest.training
    assert training.scans == ('procedural objects',)
    assert 'Done after' in pretrained.log


def test_a_training_starts_from_the_pretrained_model(window: Window, pretrained: Pretrained, tmp_path: Path) -> None:
    """Stopped, its best epoch becomes the model in use."""
    short(window)
    window.settings['n_filters_scale'].set_value(2)
    window.settings['model_path'].set_value(pretrained.folder / 'model.safetensors')
    enter(window.widget('start_from_model'), True)
    window.train(tmp_path)
    wait(lambda: 'Epoch 2 of' in window.log())
    window.picture('fine-tuning')
    window.click(window.progress.stop_button)
    wait(window.is_idle)
    log = window.log()
    assert 'The training starts from model.safetensors' in log and 'NumFiltersScale = 2' in log and 'Stopped' in log
    assert can_resume(tmp_path) and open_model(tmp_path / 'model.safetensors').manifest.training.interrupted
    assert 'trained on simulated' in window.status() and 'stopped after' in window.status()


def test_a_stopped_pretraining_is_over_soon(window: Window, tmp_path: Path) -> None:
    """The product that has shown it is that of the scan again, and its checkpoint is kept."""
    short(window, epochs=LONG)
    window.settings['n_groups'].set_value(256)
    enter(window.widget('source'), SOURCE)
    window.train(tmp_path)
    product, own = window.products.currentIndex(), window.object_of(0)
    wait(lambda: window.object_of(product).shape != own.shape and 'Epoch 1 of' in window.log())
    window.click(window.progress.stop_button)
    wait(lambda: not window.api.task_monitor.is_processing)
    wait(window.is_idle)
    assert np.array_equal(window.object_of(product), own)
    assert 'Stopped' in window.log() and can_resume(tmp_path)
    assert re.search(r'pretrained for its probe \(.*stopped after \d+ of 400 epochs', window.status())
    assert not window.errors
