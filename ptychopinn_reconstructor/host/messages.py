"""What the messages of a worker become in the host: products, progress, lines of the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.reconstruct import ReconstructOutput

from ..config import Config
from .model_file import ModelFile
from .runner import Message
from .scans import HostScan

WHOLE = 100  # progress of a complete reconstruction: percent
AFTER_NETWORK = 90  # percent at which the network's object is complete, when it is refined afterwards


def taken(path: Path) -> NDArray[Any]:
    """An array that the worker has left, which is then removed."""
    values: NDArray[Any] = np.load(path, allow_pickle=False)
    path.unlink()
    return values


def output_of(
    scan: HostScan, message: Message, scratch: Path, model: ModelFile, config: Config
) -> ReconstructOutput | None:
    """What the host gets of a message: a product with the object so far, or the complete one."""
    if message['event'] not in ('preview', 'done'):
        return None
    done = message['event'] == 'done'
    product = scan.product_with(
        scan.object_of(taken(scratch / message['object']), message['origin']),
        probe=taken(scratch / message['probe']) if done else None,
        positions=taken(scratch / message['positions']) if done and message['positions'] else None,
        losses=message['losses'] if done else model.losses,
        comment=message['comments'] if done else '',
    )
    return ReconstructOutput(product, progress=WHOLE if done else percent(message, config))


def percent(message: Message, config: Config) -> int:
    """How far a reconstruction is, below WHOLE."""
    passes = config.inference.refine_passes
    network = AFTER_NETWORK if passes != 0 else WHOLE - 1
    if message['stage'] == 'network':
        return max(1, int(network * message['patterns'] / message['total']))
    return min(WHOLE - 1, network + int((WHOLE - network) * message['epoch'] / message['total']))


def epoch_line(message: Message) -> str:
    """How far a training is, for the log."""
    held_out = f', held-out loss {message["val_loss"]:.5g}' if message.get('val_loss') is not None else ''
    return f'Epoch {message["epoch"]} of {message["total"]}: loss {message["train_loss"]:.5g}{held_out}'


def result_line(message: Message) -> str:
    """How far to trust the object, for the log."""
    return f'Done after {message["run"]["refine_passes"]} refinement passes: {message["trust"]}.'
