"""Infer and Train: enabled where they can work; else their tool tips say why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from model_files import parts
from ptychodus.api.probe import ProbeSequence
from window import Window, enter

from ptychopinn_reconstructor.host.readiness import explain_infer
from ptychopinn_reconstructor.model_file.writing import write_model

GOLDEN = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'


def tips(window: Window) -> dict[str, tuple[bool, str]]:
    buttons = {'infer': window.actions.reconstruct_button, 'train': window.actions.train_button}
    return {name: (button.isEnabled(), button.toolTip()) for name, button in buttons.items()}


def test_without_a_model_infer_says_how_to_get_one(window: Window) -> None:
    assert tips(window) == {'infer': (False, 'There is no model: train one, or load one (menu beside Train).'),
                            'train': (True, '')}  # fmt: skip
    window.products.setCurrentIndex(-1)
    window.products.setCurrentIndex(0)  # the host enables both by the product alone
    assert not tips(window)['infer'][0]


def test_a_model_of_another_size_cannot_infer(window: Window, tmp_path: Path) -> None:
    path = tmp_path / 'other.safetensors'
    write_model(path, **parts())
    window.settings['model_path'].set_value(path)
    enabled, tip = tips(window)['infer']
    assert not enabled and 'other.safetensors is for patterns of 16 pixels, those of the product have 32' in tip
    enter(window.widget('start_from_model'), True)
    assert tips(window)['train'] == (False, tip)
    enter(window.widget('start_from_model'), False)
    assert tips(window)['train'] == (True, '')
    enter(window.widget('start_from_object'), True)
    assert tips(window)['infer'] == (True, '')


def test_a_broken_model_is_the_reason(window: Window, tmp_path: Path) -> None:
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'PK not a model')
    window.settings['model_path'].set_value(broken)
    enabled, tip = tips(window)['infer']
    assert not enabled and 'broken.safetensors' in tip


@pytest.fixture
def probe_of_model(window: Window) -> Any:
    window.settings['model_path'].set_value(GOLDEN)
    model = window.library.reconstructors[0].model
    assert model is not None
    return model.model.probe


def item_with(window: Window, probe: Any) -> Any:
    """The window's product with another probe."""
    item = window.product(0)
    probes = ProbeSequence(probe[None].astype(complex), None, item.get_product().probes.get_pixel_geometry())
    return SimpleNamespace(
        get_dataset=item.get_dataset,
        get_object_item=item.get_object_item,
        get_probe_item=lambda: SimpleNamespace(get_probes=lambda: probes),
    )


def test_infer_needs_a_probe_that_the_model_knows(window: Window, probe_of_model: Any) -> None:
    """Any where passes come after the network; by the network alone one that was refined a little, in any number of
    modes, but none of another instrument."""
    pinn = window.library.reconstructors[0]
    rng = np.random.default_rng(0)
    noise = rng.normal(size=probe_of_model.shape) * np.abs(probe_of_model).max()
    window.settings['passes'].set_value(0)
    for probe in (probe_of_model, probe_of_model + 0.03 * noise, np.concatenate([probe_of_model, 0.1 * noise])):
        assert explain_infer(pinn, item_with(window, probe)) == ''
    other = item_with(window, np.roll(probe_of_model, 9, axis=-1))
    window.settings['passes'].set_value(2)
    assert explain_infer(pinn, other) == ''
    assert 'no probe' in explain_infer(pinn, item_with(window, 0 * probe_of_model))
    window.settings['passes'].set_value(0)
    refused = explain_infer(pinn, other)
    assert 'was trained with another probe (correlation 0.' in refused and 'set passes' in refused
    assert 'no probe' in explain_infer(pinn, item_with(window, 0 * probe_of_model))


def test_another_algorithm_has_the_host_s_buttons(window: Window) -> None:
    others = [i for i in range(window.algorithm.count()) if 'ptychopinn_' not in window.algorithm.itemText(i)]
    if not others:
        pytest.skip('this Ptychodus has no other algorithm')
    window.algorithm.setCurrentIndex(others[0])
    window.algorithm.textActivated.emit(window.algorithm.currentText())
    assert window.actions.reconstruct_button.isEnabled() and window.actions.reconstruct_button.toolTip() == ''
    window.select('pinn')
    assert not window.actions.reconstruct_button.isEnabled()
