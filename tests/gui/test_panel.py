"""The panel: every setting in it, both ways, and what it says of model, backend and device."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ptychodus.api.parameters import BooleanParameter, IntegerParameter, RealParameter
from PyQt5.QtCore import QPoint, QPointF, Qt
from PyQt5.QtGui import QWheelEvent
from PyQt5.QtWidgets import QApplication, QComboBox, QLabel, QPushButton, QWidget
from pytestqt.qtbot import QtBot
from window import HANG, Window, enter, line_of, press_to, shown

from ptychopinn_reconstructor.backend import installed, resolve_name
from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.host.devices import Devices
from ptychopinn_reconstructor.host.effects import DECISIVE
from ptychopinn_reconstructor.host.fields import GROUPS, LABELS, Field
from ptychopinn_reconstructor.host.panel import list_fields
from ptychopinn_reconstructor.host.settings import PluginSettings
from ptychopinn_reconstructor.host.window.fields import DeviceViewController
from ptychopinn_reconstructor.host.window.layout import iterate_rows

PATHS = ('model_path', 'further_models', 'output_dir', 'scratch_dir')
BOTH = pytest.mark.parametrize('model_type', ['pinn', 'supervised'])


def all_fields(settings: PluginSettings, model_type: str) -> list[Field]:
    return [field for group in GROUPS for field in list_fields(group, settings, model_type)]


def changeable(settings: PluginSettings, model_type: str) -> list[Field]:
    """All but the backend where there is only one to choose from; first and last those that others depend on."""
    fields = [each for each in all_fields(settings, model_type) if each.name != 'backend' or len(installed()) > 1]
    order = {'source': -1, **dict.fromkeys(DECISIVE[1:], 1)}
    return sorted(fields, key=lambda field: order.get(field.name, 0))


def another(window: Window, name: str) -> Any:
    """A value that a setting does not have yet, as it is typed in or chosen."""
    parameter = window.settings[name]
    value = parameter.get_value()
    if isinstance(parameter, BooleanParameter):
        return not value
    if isinstance(parameter, IntegerParameter):
        return value + 2
    if isinstance(parameter, RealParameter):
        return 0.75 * value if value > 0 else 0.5
    if name == 'source':
        return 'mixed'  # with which every setting has an effect
    if name in PATHS:
        return f'/somewhere/{name}'
    if name == 'device':
        return 'cuda:1'
    box = window.widget(name)
    assert isinstance(box, QComboBox)
    return next(box.itemData(i) for i in range(box.count()) if box.itemData(i) != value)


def devices_of(panel: Any) -> Devices:
    """What the combo box of the devices is filled from."""
    controller = next(each for each in panel._view_controllers if isinstance(each, DeviceViewController))
    return controller.devices


@BOTH
def test_pictures_of_the_panel(window: Window, model_type: str) -> None:
    window.select(model_type)
    window.open_groups(is_open=False)
    window.picture(f'window-{model_type}')
    window.open_groups()
    QApplication.processEvents()
    window.panel.resize(window.panel.width(), window.panel.sizeHint().height())
    window.picture(f'panel-{model_type}', window.panel)
    assert window.panel.sizeHint().width() < 600


@pytest.mark.smoke
def test_the_panel_holds_every_setting_once(window: Window) -> None:
    assert sorted(LABELS) == sorted(window.settings.parameters)
    assert sum(len(group) for group in GROUPS.values()) == len(LABELS)


@BOTH
def test_fields_that_do_not_apply_are_not_there(window: Window, model_type: str) -> None:
    window.select(model_type)
    there = {field.name for field in all_fields(window.settings, model_type)}
    for name in LABELS:
        assert (window.panel.findChild(QWidget, name) is not None) == (name in there), name
    assert ('nll_weight' in there, 'far_field_weight' in there) == (model_type == 'pinn', model_type == 'supervised')


@BOTH
def test_every_field_changes_its_setting_and_follows_it(window: Window, model_type: str) -> None:
    window.select(model_type)
    window.open_groups()
    before = {}
    for field in changeable(window.settings, model_type):
        name, widget, parameter = field.name, window.widget(field.name), window.settings[field.name]
        before[name] = shown(widget)
        value = another(window, name)
        enter(widget, value)
        assert parameter.get_value() == (Path(value) if name == 'model_path' else value), name
        assert shown(widget) != before[name], name
    config = window.settings.config(model_type).to_json()
    for name, row in window.settings.rows.items():
        if name in before and row.has_effect(model_type, config['data']['source']):
            set_to = window.settings[name].get_value()
            expected = str(set_to) if name in PATHS else resolve_name(set_to)
            assert config[row.section][name] == expected, name
    for name, value in window.settings.defaults.items():
        window.settings[name].set_value(value)
    assert {name: shown(window.widget(name)) for name in before} == before


@BOTH
def test_every_field_says_what_it_does(window: Window, model_type: str) -> None:
    window.select(model_type)
    explained = set()
    for label, field in iterate_rows(window.panel):
        assert label.toolTip() == field.toolTip()
        if field.objectName() == 'region':
            continue
        assert re.search(r'INI: \[PtychoPINN\w+\] \w+', field.toolTip())
        assert re.search(r'Default: \S', field.toolTip())
        assert 'None' not in field.toolTip() and 'True' not in field.toolTip()
        explained.add(field.objectName())
    assert explained == {field.name for field in all_fields(window.settings, model_type)}
    assert 'Unit: patterns' in window.widget('batch_size').toolTip()
    assert '0 (never): train to the end' in window.widget('early_stop_patience').toolTip()


@BOTH
def test_a_person_sees_what_is_needed_and_opens_the_rest(window: Window, model_type: str) -> None:
    """Eight settings, of which one is epochs or time, in a panel that is not scrolled; and names that tell apart."""
    window.select(model_type)
    window.open_groups(is_open=False)
    QApplication.processEvents()
    seen = [field.objectName() for _, field in iterate_rows(window.panel) if field.isVisible()]
    assert seen == [
        'backend', 'device', 'source', 'nepochs', 'max_cpu_seconds', 'passes', 'probe', 'positions', 'model_path',
    ]  # fmt: skip
    assert window.panel.sizeHint().height() < 800
    probes = {LABELS[name] for name in ('probe', 'refine_probe_first', 'probe_trainable')}
    assert probes == {'Refine probe on Infer', 'Refine probe before Train', 'Learn probe with network'}
    for name in ('probe', 'refine_probe_first') if model_type == 'pinn' else ('probe',):
        assert 'Recommended for a bad probe' in window.widget(name).toolTip()


GREY = [
    ({}, 'dose_range', 'Training source'),
    ({'source': 'procedural'}, 'n_subsample', 'Pretrain for this probe'),
    ({'source': 'procedural'}, 'nll_weight', 'Pretrain for this probe'),
    ({'start_from_model': True}, 'n_filters_scale', 'The network is that of the model'),
    ({'start_from_object': True}, 'model_path', 'No model is used'),
    ({'passes': 0}, 'probe', 'No passes are made'),
    ({'passes': 0}, 'prior', 'No passes are made'),
]


@pytest.mark.parametrize(('changes', 'name', 'reason'), GREY)
def test_a_setting_without_an_effect_is_grey_and_says_why(
    window: Window, changes: dict[str, Any], name: str, reason: str
) -> None:
    for key, value in changes.items():
        window.settings[key].set_value(value)
    field = window.widget(name)
    assert not field.isEnabled() and reason in field.toolTip() and 'INI: ' in field.toolTip()
    if not changes:
        window.settings['source'].set_value('mixed')
    for key in changes:
        window.settings[key].set_value(window.settings.defaults[key])
    assert window.widget(name).isEnabled() and '<b>' not in window.widget(name).toolTip()


def test_grid_size_and_neighbors_say_what_they_come_to(window: Window) -> None:
    label = window.widget('region')
    assert isinstance(label, QLabel) and label.text() == '8 patterns that must agree'
    enter(window.widget('gridsize'), 3)
    assert label.text() == '9 patterns that must agree'
    enter(window.widget('object_big'), False)
    assert label.text() == '1 pattern, each alone'


def test_settings_are_saved_and_opened(window: Window, tmp_path: Path) -> None:
    kept = {}
    for field in changeable(window.settings, 'pinn'):
        enter(window.widget(field.name), another(window, field.name))
        kept[field.name] = shown(window.widget(field.name))
    view = window.view.settings_view
    window.answer = tmp_path / 'session.ini'
    save, load = (view.button_box.button(kind) for kind in (view.button_box.Save, view.button_box.Open))
    window.click(save)
    window.controller._settings_controller._sync_dialog.reject()  # whether to take the values of a product: no
    assert 'Device = cuda:1' in window.answer.read_text()
    for name, value in window.settings.defaults.items():
        window.settings[name].set_value(value)
    assert {name: shown(window.widget(name)) for name in kept} != kept
    window.click(load)
    assert {name: shown(window.widget(name)) for name in kept} == kept
    window.select('supervised')
    assert shown(window.widget('device')) == 'cuda:1'


def test_backends_that_are_there_can_be_chosen_and_another_is_kept(window: Window) -> None:
    box = window.widget('backend')
    assert isinstance(box, QComboBox)
    there = [box.itemText(i) for i in range(box.count())]
    assert {resolve_name(title) for title in there} == set(installed())
    window.settings['backend'].set_value('JAX')
    assert shown(box) == 'JAX (not installed)'
    window.select('supervised')
    assert shown(window.widget('backend')) == 'JAX (not installed)'
    assert window.settings['backend'].get_value() == 'JAX'
    press_to(window.widget('backend'), 'PyTorch')
    assert window.settings['backend'].get_value() == 'PyTorch'
    assert [box.itemText(i) for i in range(box.count())] == there


def test_a_value_that_is_none_of_the_choices_is_shown_and_kept(window: Window) -> None:
    window.settings['amp_activation'].set_value('tanh')
    assert shown(window.widget('amp_activation')) == 'tanh (unknown)'
    enter(window.widget('nepochs'), 12)
    assert window.settings['amp_activation'].get_value() == 'tanh'


def test_devices_are_found_by_a_worker(window: Window, qtbot: QtBot) -> None:
    box, devices = window.widget('device'), devices_of(window.panel)
    assert isinstance(box, QComboBox)
    assert [box.itemText(i) for i in range(box.count())][:2] == ['auto', 'cpu']
    qtbot.waitUntil(lambda: devices.known('torch') is not None, timeout=HANG)  # since the panel was shown
    assert 'cpu' in (devices.known('torch') or [])
    assert not {'torch', 'tensorflow', 'lightning', 'keras'} & sys.modules.keys()


def test_devices_of_the_backend_can_be_chosen_or_typed(window: Window) -> None:
    devices = devices_of(window.panel)
    known = devices.known('torch') or []
    enter(window.widget('device'), 'cuda:0')
    devices.add('torch', ['cpu', 'cuda:0', 'cuda:1'])
    try:
        for model_type in ('supervised', 'pinn'):
            window.select(model_type)
            box = window.widget('device')
            assert isinstance(box, QComboBox)
            assert [box.itemText(i) for i in range(box.count())] == ['auto', 'cpu', 'cuda:0', 'cuda:1']
            assert shown(box) == 'cuda:0'
        press_to(box, 'cuda:1')
        assert window.settings['device'].get_value() == 'cuda:1'
        window.settings['backend'].set_value('JAX')
        assert [box.itemText(i) for i in range(box.count())] == ['auto', 'cpu']
        assert shown(box) == 'cuda:1'
        enter(box, '')
        assert window.settings['device'].get_value() == 'auto'
    finally:
        devices.add('torch', known)


def test_devices_that_cannot_be_found_leave_auto_and_cpu(window: Window, tmp_path: Path, qtbot: QtBot) -> None:
    (tmp_path / 'file').touch()
    window.settings['scratch_dir'].set_value(str(tmp_path / 'file'))
    devices = Devices(window.settings, window.library.session, window.library.get_logger())
    devices.query()
    qtbot.waitUntil(lambda: 'The devices are not known' in window.log(), timeout=HANG)
    assert devices.list_names() == ['auto', 'cpu'] and devices.known('torch') is None


def test_a_typed_number_replaces_one_that_could_not_be_read(window: Window) -> None:
    window.settings['learning_rate'].set_value_from_string('fast')
    with pytest.raises(ConfigError, match=r"\[PtychoPINNPlugin\] LearningRate = 'fast'"):
        window.settings.config('pinn')
    enter(window.widget('learning_rate'), 0.001)
    assert window.settings.config('pinn').training.learning_rate == 0.001


def test_the_wheel_scrolls_and_changes_nothing(window: Window) -> None:
    for name in ('nepochs', 'backend', 'device'):
        widget = window.widget(name)
        widget.clearFocus()
        before = shown(widget)
        where = QPointF(5, 5)
        turn = QWheelEvent(
            where, where, QPoint(), QPoint(0, -120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, turn)
        assert shown(widget) == before, name


def test_files_are_chosen_in_a_dialog(window: Window, tmp_path: Path) -> None:
    window.answer = tmp_path
    for name in ('output_dir', 'scratch_dir'):
        button = window.widget(name).findChild(QPushButton)
        window.click(button)
        assert window.settings[name].get_value() == str(tmp_path)
    assert window.settings.config('pinn').training.output_dir == tmp_path
    enter(window.widget('output_dir'), ' ')
    assert window.settings.config('pinn').training.output_dir is None


def test_further_models_are_chosen_one_after_the_other(window: Window, tmp_path: Path) -> None:
    button = window.widget('further_models').findChild(QPushButton)
    for name in ('one.safetensors', 'two.safetensors'):
        window.answer = tmp_path / name
        window.click(button)
    assert window.settings.further_models() == (tmp_path / 'one.safetensors', tmp_path / 'two.safetensors')
    assert (
        shown(window.widget('further_models'))
        == f'{tmp_path / "one.safetensors"}{os.pathsep}{tmp_path / "two.safetensors"}'
    )
    enter(window.widget('further_models'), '')
    assert window.settings.further_models() == ()


def test_the_status_says_what_is_wrong_with_a_model(window: Window, tmp_path: Path, qtbot: QtBot) -> None:
    assert 'No model' in window.status()
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'PK not a model')
    for path, expected in ((tmp_path / 'gone.safetensors', 'There is no file'), (broken, 'broken.safetensors')):
        enter(window.widget('model_path'), path)
        assert expected in window.status() and str(path.name) in window.status()
    enter(window.widget('model_path'), '')
    assert 'No model' in window.status()
    assert line_of(window.widget('model_path')).placeholderText() == 'none'


def test_the_status_is_as_high_as_what_it_says(window: Window) -> None:
    label = window.widget('status')
    window.open_groups(is_open=False)
    for words in (40, 10, 0):
        window.library.session.status.begin('word ' * words)
        QApplication.processEvents()
        assert label.height() >= label.heightForWidth(label.width()), words


def test_infer_can_start_from_the_object_without_a_model(window: Window) -> None:
    window.settings['model_path'].set_value(Path())
    assert 'No model' in window.status() and not window.actions.reconstruct_button.isEnabled()
    enter(window.widget('start_from_object'), True)
    assert 'no model is used' in window.status() and window.actions.reconstruct_button.isEnabled()
    enter(window.widget('start_from_object'), False)
    assert 'No model' in window.status() and not window.actions.reconstruct_button.isEnabled()


def test_an_empty_prior_is_automatic(window: Window) -> None:
    line = line_of(window.widget('prior'))
    assert line.text() == '' and line.placeholderText() == 'automatic'
    for typed, value, text in (('0.3', 0.3, '0.3'), ('much', 0.3, '0.3'), ('0', 0.0, '0'), ('', -1.0, '')):
        enter(window.widget('prior'), typed)
        assert window.settings['prior'].get_value() == value and line.text() == text
    assert window.settings.config('pinn').refinement.prior is None
    assert 'Empty (automatic): ' in window.widget('prior').toolTip()
