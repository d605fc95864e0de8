"""Which process of several this is, by the variables of torchrun and srun; and that their parts make up the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptychopinn_reconstructor.backend import TrainingJob
from ptychopinn_reconstructor.backend.batches import MixedSteps, Steps, make_steps
from ptychopinn_reconstructor.config import Config, ExecutionConfig
from ptychopinn_reconstructor.errors import ConfigError
from ptychopinn_reconstructor.physics.grouping import hold_out_all
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.training.ranks import ALONE, Ranks, find_ranks
from ptychopinn_reconstructor.training.run import make_procedural_patterns
from ptychopinn_reconstructor.training.setup import split_scan

TORCHRUN = {'RANK': '5', 'WORLD_SIZE': '8', 'LOCAL_RANK': '1', 'TORCHELASTIC_RUN_ID': 'x'}
SRUN = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '3', 'SLURM_STEP_ID': '0'}


def ddp(devices: int, num_nodes: int = 1) -> ExecutionConfig:
    return ExecutionConfig(strategy='ddp', devices=devices, num_nodes=num_nodes)


def test_the_launchers_say_which_process_this_is() -> None:
    assert find_ranks(ddp(4, 2), TORCHRUN) == Ranks(5, 8, 1)
    assert find_ranks(ddp(4), SRUN) == Ranks(3, 4, 3)
    assert find_ranks(ExecutionConfig(), TORCHRUN) == ALONE == Ranks(0, 1, 0)


def test_a_process_started_alone_or_with_too_few_is_refused() -> None:
    with pytest.raises(ConfigError, match='started alone; start it with: torchrun --nnodes 1 --nproc-per-node 2'):
        find_ranks(ddp(2), {})
    in_a_script = {name: value for name, value in SRUN.items() if name != 'SLURM_STEP_ID'}  # sbatch without srun
    with pytest.raises(ConfigError, match='started alone'):
        find_ranks(ddp(4), in_a_script)
    with pytest.raises(ConfigError, match=r'8 processes were started but devices \(2\) times num_nodes \(1\) is 2'):
        find_ranks(ddp(2), TORCHRUN)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'devices': 2}, 'devices is 2 but strategy auto is one process'),
        ({'num_nodes': 2}, 'num_nodes is 2 but strategy auto is one process'),
        ({'strategy': 'ddp', 'device': 'cuda:1'}, 'device is cuda:1 but strategy ddp gives each process its own'),
    ],
)
def test_settings_of_several_processes_apply_or_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config().merged({'execution': values})


def make_job(rank: int, ranks: int, **sections: dict[str, Any]) -> TrainingJob:
    regions = {'model': {'gridsize': 2}, 'data': {'neighbor_count': 3}}
    simulated = sections.get('data', {}).get('source') == 'procedural'
    base = {'model': {'N': 32}, 'training': {'batch_size': 28}}
    kind = {'model': {'model_type': 'supervised'}} if simulated else regions
    config = Config().merged(base, kind, sections)
    prepared = prepare_scan(simulate(n=32, positions=120, seed=0, step=4.0, jitter=1.0), mode='absolute')
    source = config.data.source
    procedural = None if source == 'scans' else make_procedural_patterns(prepared.probe, None, config)
    split = hold_out_all(len(prepared)) if source == 'procedural' else split_scan(prepared, config)
    return TrainingJob((prepared,), (split,), config, Path(), procedural=procedural, rank=rank, ranks=ranks)


def make_parts(ranks: int, **sections: dict[str, Any]) -> list[Steps]:
    return [make_steps(make_job(rank, ranks, **sections)) for rank in range(ranks)]


@pytest.mark.parametrize('ranks', [2, 3])
@pytest.mark.parametrize('source', ['scans', 'procedural', 'mixed'])
def test_the_parts_of_all_processes_make_up_each_step(source: str, ranks: int) -> None:
    whole, parts = make_steps(make_job(0, 1, data={'source': source})), make_parts(ranks, data={'source': source})
    steps = [one.draw_part(3) for one in parts]
    assert {len(one) for one in steps} == {len(whole)} and isinstance(whole, MixedSteps) == (source == 'mixed')
    for number, step in list(enumerate(whole.draw_epoch(3)))[:4]:
        expected = whole.batch(step)
        found = [part.batch(one[number]) for part, one in zip(parts, steps, strict=True)]
        assert all(len(batch.counts) for batch in found)
        for name in ('counts', 'root4', 'backprojection', 'fractions', 'labels', 'dose', 'scan'):
            values = [getattr(batch, name) for batch in found]
            if getattr(expected, name) is not None:
                np.testing.assert_array_equal(np.concatenate(values), getattr(expected, name))


def test_the_validation_is_divided_where_there_is_enough_of_it() -> None:
    """120 patterns in 4 steps; a process without any would wait for the others' mean for ever."""
    simulated = {'source': 'procedural'}
    whole = make_steps(make_job(0, 1, data=simulated)).list_validation_steps()
    for ranks, counts in ((2, [2, 2]), (3, [2, 1, 1]), (5, [4] * 5)):
        parts = [part.list_validation_part() for part in make_parts(ranks, data=simulated)]
        assert [len(part) for part in parts] == counts
        drawn = np.concatenate([step.regions.ravel() for part in parts for step in part])
        assert {*drawn} == {*np.concatenate([step.regions.ravel() for step in whole])}


def test_a_step_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'28 patterns in 7 regions, too few for 8 processes; set .*batch_size to 32'):
        make_parts(8)
