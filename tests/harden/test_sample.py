"""A short, seeded sample of each series of attacks; `make harden` runs all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from frameworks import needs

from harden.attacks import SERIES, run_attack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == 'win32', reason='limits and signals of POSIX'),
    pytest.mark.filterwarnings('ignore'),
]
NEEDS = {
    'weights': [needs('torch')],
    'torch checkpoint': [needs('torch')],
    'keras checkpoint': [needs('tensorflow')],
}


@pytest.mark.parametrize('name', [pytest.param(name, marks=NEEDS.get(name, [])) for name in SERIES])
def test_a_sample_of_each_series_holds(name: str, tmp_path: Path) -> None:
    """Drawn from numbers that the campaign does not reach, so that each is another one."""
    outcomes = {}
    for number in range(10**6, 10**6 + SERIES[name].sample):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcomes[number] = run_attack(name, number, folder)
    assert not {number: outcome for number, outcome in outcomes.items() if outcome != 'held'}


@pytest.mark.parametrize('backend', [pytest.param(name, marks=needs(name)) for name in ('torch', 'tensorflow')])
def test_a_killed_training_resumes_to_the_same_weights(backend: str, tmp_path: Path) -> None:
    from harden.kills import attack_kill

    assert attack_kill(backend, tmp_path, np.random.default_rng(0)) == 'held'
