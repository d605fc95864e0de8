"""Which process of a training this is, where torchrun or srun has started several that train one network together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..backend import Capability, check_capability, describe, resolve_name
from ..config import ExecutionConfig
from ..errors import ConfigError

START = 'torchrun --nnodes {nodes} --nproc-per-node {devices}'
# Of torchrun, and of srun: the variable that only a step of srun has stands last.
LAUNCHERS = (
    ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'TORCHELASTIC_RUN_ID'),
    ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_STEP_ID'),
)


class Ranks(NamedTuple):
    """Number of this process among `total`, from 0, and on its machine."""

    number: int = 0
    total: int = 1
    local: int = 0


ALONE = Ranks()


def find_ranks(execution: ExecutionConfig, variables: Mapping[str, str] = os.environ) -> Ranks:
    """This process among those that train together; the only one unless the strategy is ddp.

    Raises ConfigError where it was started alone, or with another number of processes than the configuration says,
    BackendError where the backend leaves such trainings out.
    """
    if execution.strategy != 'ddp':
        return ALONE
    check_capability(describe(resolve_name(execution.backend)), Capability.PROCESSES)
    wanted = execution.devices * execution.num_nodes
    start = START.format(nodes=execution.num_nodes, devices=execution.devices)
    names = next((names for names in LAUNCHERS if all(name in variables for name in names)), None)
    if names is None:
        raise ConfigError(
            f'strategy is ddp but this process was started alone; start it with: {start} -m ptychopinn_reconstructor '
            'train ..., or with srun, or set strategy auto.'
        )
    ranks = Ranks(*(int(variables[name]) for name in names[:3]))
    if ranks.total != wanted:
        raise ConfigError(
            f'{ranks.total} processes were started but devices ({execution.devices}) times num_nodes '
            f'({execution.num_nodes}) is {wanted}; start them with: {start}, or set devices and num_nodes.'
        )
    return ranks
