"""Golden checkpoints: a training that was stopped long ago goes on (tests/golden)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from frameworks import needs

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.training.train import train

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parents[1] / 'golden'


@pytest.mark.parametrize(
    ('backend', 'checkpoint'),
    [
        pytest.param('torch', 'last.ckpt', marks=needs('torch')),
        pytest.param('tensorflow', 'last.keras', marks=needs('tensorflow')),
    ],
)
def test_a_training_goes_on_from_it(backend: str, checkpoint: str, tmp_path: Path) -> None:
    """With the losses of its three epochs, for one more, which is better than the first."""
    (tmp_path / 'checkpoints').mkdir()
    shutil.copy(GOLDEN / checkpoint, tmp_path / 'checkpoints')
    scan = simulate(n=32, positions=64, step=4.0, photons=1e4, seed=0)
    settings: dict[str, dict[str, Any]] = {
        'model': {'n_filters_scale': 0.1},
        'training': {'nepochs': 4, 'batch_size': 8},
        'execution': {'backend': backend},
    }
    losses = train([scan], Config().merged(settings), tmp_path, resume=True).trained.losses
    recorded = json.loads((GOLDEN / 'losses.json').read_text())[checkpoint]
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4]
    assert [list(pair) for pair in losses[:3]] == recorded and losses[3][1] < recorded[0][1]
