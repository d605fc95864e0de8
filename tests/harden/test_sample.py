"""A short, seeded sample of each series of attacks; `make harden` runs all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from frameworks import needs

from harden.attacks import SERIES, run_attack
from harden.endurance import Grown, judge, refine_repeatedly, repeat, start_workers
from harden.environments import attack_environment

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


BACKENDS = [pytest.param(name, marks=needs(name)) for name in ('torch', 'tensorflow')]


@pytest.mark.parametrize('kind', ['training', 'saving', 'reconstructing', 'pretraining'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_a_killed_command_leaves_whole_files_and_ends_in_the_same_bits(backend: str, kind: str, tmp_path: Path) -> None:
    from harden.kills import attack_kill

    assert attack_kill(backend, tmp_path, np.random.default_rng(0), kind) == 'held'


def test_commands_in_odd_surroundings_work_or_end_in_a_sentence(tmp_path: Path) -> None:
    for number in range(8):
        (folder := tmp_path / str(number)).mkdir()
        assert attack_environment(folder, np.random.default_rng([10**6, number])).startswith('held')


@pytest.mark.skipif(sys.platform != 'linux', reason='counts what Linux tells of a process')
@pytest.mark.parametrize(('series', 'count'), [(refine_repeatedly, 60), (start_workers, 12)])
def test_a_long_series_piles_nothing_up(series: Callable[[int, Path], str], count: int, tmp_path: Path) -> None:
    assert series(count, tmp_path).startswith('held')


def test_what_piles_up_is_seen(tmp_path: Path) -> None:
    """A file left open, and arrays that are kept."""
    kept: list[object] = []
    with pytest.raises(Grown, match='handles became'):
        judge(repeat(lambda: kept.append(os.open(__file__, os.O_RDONLY)), 12, tmp_path))
    with pytest.raises(Grown, match='memory grows'):
        judge(repeat(lambda: kept.append(np.ones(2**17)), 12, tmp_path))
    for handle in kept[:12]:
        os.close(handle)  # type: ignore[arg-type]
