"""The network that docs/how-to/write-a-network.md writes is one: it is trained, and passes checks of a network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from frameworks import BACKENDS, lazy, needs

from ptychopinn_reconstructor.backend import load_backend
from ptychopinn_reconstructor.conformance import BackendConformance
from ptychopinn_reconstructor.conformance.jobs import train

pytestmark = needs('torch')
description = lazy(f'{BACKENDS}.torch_lightning.description')
PAGE = Path(__file__).parents[2] / 'docs' / 'how-to' / 'write-a-network.md'
NAME = 'plain_cnn'


def test_the_network_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module as it stands there, and the entry that names it."""
    module, entries = re.findall(r'^```python\n(.*?)^```', PAGE.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)
    named = dict(re.findall(r"'(\w+)': '([\w.:]+)'", entries))
    (tmp_path / f'{NAME}.py').write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    architectures = description.DESCRIPTION.architectures
    assert named.keys() - architectures.keys() == {NAME} and named['s2d_unet'] == architectures['s2d_unet']
    monkeypatch.setitem(architectures, NAME, named[NAME].removeprefix(f'{BACKENDS}.torch_lightning.'))
    backend, checks = load_backend('torch'), BackendConformance()
    checks.test_fresh_weights_are_drawn_from_the_seed(backend, NAME)
    checks.test_a_patch_depends_on_its_pattern_only(backend, NAME)
    checks.test_a_network_keeps_its_weights(backend, NAME)
    trained = train(backend, tmp_path / 'out', model__architecture=NAME, training__nepochs=6)
    losses = [loss for _, loss in trained.losses]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
