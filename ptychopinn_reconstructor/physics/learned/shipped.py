"""The network that comes with the package: its file, `learned_step.npz`, and the test of it.

| key             | what                                                                                        |
|-----------------|---------------------------------------------------------------------------------------------|
| `weights.NAME`  | weights of `Network` in half precision                                                      |
| `test.channels` | what the network was shown once, (9, 32, 32), and `test.correction` (2, 32, 32), its answer |
| `description`   | JSON: `sha256` of all weights, how it was trained, `strength` of the step                   |

Nothing in it is pickled. `make pretrained` writes it (benchmarks/learning).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import VerificationError
from .network import Network

FILE = Path(__file__).with_name('learned_step.npz')
CLOSE = 1e-3  # of the network's answer: orders of summation differ by 1e-6, of a changed weight or operation by more


@dataclass(frozen=True, eq=False)
class Shipped:
    """A network with the share of its correction that is best taken, and the rest of its description."""

    network: Network
    strength: float
    description: Mapping[str, Any]


@cache
def shipped_network() -> Shipped:
    """The network of the package, tested once a process."""
    return read_network(FILE)


def read_network(path: Path) -> Shipped:
    """A network from its file.

    Raises VerificationError where its weights are not those that were written, or it does not answer as it did then.
    """
    with np.load(path, allow_pickle=False) as file:
        stored = dict(file)
    description = json.loads(str(stored['description']))
    weights = {name.removeprefix('weights.'): values for name, values in stored.items() if name.startswith('weights.')}
    if hash_weights(weights) != description['sha256']:
        raise VerificationError(f'The weights of the learned step in {path} are damaged; install the package again.')
    network = Network({name: values.astype(np.float32) for name, values in weights.items()})
    answer = network(stored['test.channels'].astype(np.float32))
    if not np.allclose(answer, stored['test.correction'], atol=CLOSE):
        raise VerificationError(
            f'The learned step in {path} does not reproduce its self-test; set refinement.learned_step=off.'
        )
    return Shipped(network, float(description['strength']), description)


def write_network(
    path: Path, weights: Mapping[str, NDArray[Any]], channels: NDArray[np.float32], description: Mapping[str, Any]
) -> None:
    """Write a network with its answer to `channels` (9, 32, 32) and a description, to which its hash is added."""
    half = {name: np.asarray(values, dtype=np.float16) for name, values in sorted(weights.items())}
    shown = channels.astype(np.float16)
    answer = Network({name: values.astype(np.float32) for name, values in half.items()})(shown.astype(np.float32))
    text = json.dumps({**description, 'sha256': hash_weights(half)}, sort_keys=True)
    named: dict[str, NDArray[Any]] = {f'weights.{name}': values for name, values in half.items()}
    named |= {'test.channels': shown, 'test.correction': answer, 'description': np.array(text)}
    np.savez_compressed(path, allow_pickle=False, **named)


def hash_weights(weights: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of the names and values of weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, values in sorted(weights.items()):
        digest.update(name.encode() + np.ascontiguousarray(values, dtype='<f2').tobytes())
    return digest.hexdigest()
